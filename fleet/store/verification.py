"""Checks the audit trail against its signed heads, and says which entry is not what it was.

It trusts the public key and the encoding of entries, and nothing that the database says of itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fleet.core.audit import SignedHead, archived_end, entry_hash
from fleet.core.merkle import Frontier
from fleet.errors import StoreError
from fleet.ports import Transaction
from fleet.store import audit, times
from fleet.store.audit import DamagedEntry, DamagedHead, StoredEntry

_ENDLESS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What the trail is checked against.

    `log` is the name of the fleet, `is_signed(signature, message)` tells whether the audit key signed that
    message, `kept` is the head that was kept outside of the database.
    """

    log: str
    is_signed: Callable[[bytes, bytes], bool]
    kept: SignedHead | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong with the entries `first` to `last`, counted from 0."""

    first: int
    last: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check found; the trail is whole if that is nothing."""

    size: int
    heads: int
    newest: SignedHead | None
    findings: tuple[Finding, ...]
    archived: int = 0
    """Entries of which the hash alone is here: their words were checked when they left."""

    @property
    def is_whole(self) -> bool:
        return not self.findings


async def verify(tx: Transaction, against: Verification) -> Verdict:
    """Check every entry, its place in the tree, every signed head, and that nothing is missing at the end."""
    check = _Check(against)
    await _check_archived(tx, check)
    while entries := await audit.page_to_check(tx, check.size - 1):
        last = max(entries[-1].number, check.size)
        heads = await _heads(tx, check, first=check.size + 1, last=last + 1)
        for stored in entries:
            check.take(stored)
            check.compare(heads)
    await _check_end(tx, check)
    return Verdict(
        size=check.size,
        heads=check.heads,
        newest=check.newest,
        findings=tuple(check.findings),
        archived=check.archived,
    )


async def _check_archived(tx: Transaction, check: "_Check") -> None:
    """Take the hashes of what was archived; whether it may have left, later entries tell."""
    while rows := await audit.archived_hashes(tx, check.size - 1):
        heads = await _heads(tx, check, first=check.size + 1, last=max(rows[-1][0], check.size) + 1)
        for number, leaf in rows:
            check.take_archived(number, leaf)
            check.compare(heads)
    for stored in await audit.page_to_check(tx, -1):
        if stored.number < check.archived:
            check.find(stored.number, stored.number, "here, and among those that were archived")


class _Check:
    """One check on its way through the entries."""

    __slots__ = (
        "_frontier",
        "_is_broken",
        "_proven",
        "against",
        "archived",
        "archived_end",
        "findings",
        "heads",
        "newest",
        "rows",
        "size",
    )

    def __init__(self, against: Verification) -> None:
        self.against = against
        self._frontier = Frontier()
        self._is_broken = False
        self._proven = 0
        self.findings: list[Finding] = []
        self.heads = 0
        self.rows = 0
        """Of heads in the database, those that cannot be read among them."""
        self.newest: SignedHead | None = None
        self.size = 0
        """The number that is expected next."""
        self.archived = 0
        self.archived_end = 0
        """Up to where entries may have left, as the entries that were checked tell."""

    def take_archived(self, number: int, leaf: bytes | None) -> None:
        """Build the tree on, with the hash of an entry that left."""
        self._reach(number)
        if leaf is None:
            self.find(number, number, "damaged: its hash cannot be read")
            self._is_broken = True
        elif not self._is_broken:
            self._frontier = self._frontier.append(leaf)
        self.size = self.archived = number + 1

    def take(self, stored: StoredEntry | DamagedEntry) -> None:
        """Check one entry by itself, and build the tree on."""
        self._reach(stored.number)
        if isinstance(stored, DamagedEntry):
            self.find(stored.number, stored.number, "damaged: it cannot be read")
            self._is_broken = True
        else:
            if entry_hash(stored.number, stored.entry) != stored.leaf_hash:
                self.find(stored.number, stored.number, "changed: it is not what was recorded")
            else:
                self.archived_end = max(self.archived_end, archived_end(stored.entry))
            # Built of the hashes as stored: a changed entry is then found once, and not at every head too.
            if not self._is_broken:
                self._frontier = self._frontier.append(stored.leaf_hash)
        self.size += 1

    def _reach(self, number: int) -> None:
        if number > self.size:
            self.find(self.size, number - 1, "missing")
            self._is_broken = True
            self.size = number

    def compare(self, heads: Mapping[int, tuple[SignedHead, ...]]) -> None:
        """Compare the tree with the heads over as many entries as it has."""
        for signed in heads.get(self.size, ()):
            if not self.is_signed(signed) or self._is_broken:
                continue
            if self._frontier.root() != signed.head.root:
                at = times.text(signed.head.at)
                self.find(self._proven, self.size - 1, f"not those under the head that was signed at {at}")
                self._is_broken = True
            else:
                self._proven = self.size

    def is_signed(self, signed: SignedHead) -> bool:
        """Check the signature of a head."""
        self.heads += 1
        if signed.head.log == self.against.log and self.against.is_signed(
            signed.signature, signed.head.message()
        ):
            if self.newest is None or self.newest.head.size < signed.head.size:
                self.newest = signed
            return True
        last = max(0, signed.head.size - 1)
        self.find(last, last, f"under a head over {signed.head.size} entries that the audit key did not sign")
        return False

    def end(self, peaks: Frontier | None) -> None:
        """Check what no head covers, what left unsaid, and what the next entry would be appended to."""
        if self.archived > self.archived_end:
            self.find(self.archived_end, self.archived - 1, "missing: no entry tells that they were archived")
        if self._is_broken:
            return
        if self._proven < self.size:
            self.find(self._proven, self.size - 1, "under no signed head")
        elif peaks != self._frontier:
            self.find(max(0, self.size - 1), max(0, self.size - 1), "not what the tree is continued from")

    def find(self, first: int, last: int, text: str) -> None:
        self.findings.append(Finding(first=first, last=last, text=text))


async def _heads(
    tx: Transaction, check: _Check, *, first: int, last: int
) -> Mapping[int, tuple[SignedHead, ...]]:
    """Return the heads over `first` to `last` entries, by size; the one kept outside is among them."""
    found: dict[int, tuple[SignedHead, ...]] = {}
    for head in await audit.heads_between(tx, check.against.log, first, last):
        check.rows += 1
        if isinstance(head, DamagedHead):
            check.find(head.size - 1, head.size - 1, "under a signed head that is damaged: it cannot be read")
        else:
            found[head.head.size] = (head,)
    kept = check.against.kept
    if kept is not None and first <= kept.head.size <= last:
        found[kept.head.size] = (*found.get(kept.head.size, ()), kept)
    return found


async def _check_end(tx: Transaction, check: _Check) -> None:
    """Check that the trail is as long as the longest head says, and can be continued."""
    beyond = await _heads(tx, check, first=check.size + 1, last=_ENDLESS)
    longest = max((size for size, heads in beyond.items() if any(map(check.is_signed, heads))), default=0)
    if longest:
        check.find(check.size, longest - 1, "missing: a signed head covers them")
    if await audit.count_heads(tx) != check.rows:
        check.find(0, max(0, check.size - 1), "beside a signed head that is damaged: its size is none")
    for number in await audit.details_without_entry(tx, None):
        check.find(number, number, "missing: there are details of it")
    try:
        peaks: Frontier | None = await audit.load_frontier(tx)
    except StoreError:
        peaks = None
    check.end(peaks)
