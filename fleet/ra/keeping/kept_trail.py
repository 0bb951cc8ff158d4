"""The audit trail that was kept elsewhere: untrusted text, until it is proven to carry on that of a backup.

It is what `fleet audit export` prints: entries as JSON lines, and signed heads between or after them. Nothing
of it counts that no head of the audit key covers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeAlias

from fleet.core.audit import SignedHead
from fleet.core.merkle import Frontier
from fleet.errors import RefusedError
from fleet.files import open_input
from fleet.ports import Store
from fleet.ra.trail_lines import LONGEST_LINE, KeptEntry, parse_line
from fleet.store import audit

BATCH = 500
"""Entries that are taken at a time."""

_EXPORT = "fleet audit export prints one"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTrail:
    """A kept trail that was proven: it begins with, or carries on, the trail of the backup."""

    path: Path
    base: int
    """How many entries the backup has."""
    head: SignedHead
    """Over all of it."""
    until: datetime
    """Of its last entry."""
    known_lines: int
    """Lines at its beginning that the backup holds too."""

    @property
    def added(self) -> int:
        """How many entries it has beyond the backup."""
        return self.head.head.size - self.base


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a kept trail must fit: the tree in the backup, the name of the fleet, and the audit key."""

    base: Frontier
    log: str
    is_signed: Callable[[bytes, bytes], bool]


_Line: TypeAlias = KeptEntry | SignedHead


async def prove(store: Store, path: Path, proof: Proof) -> KeptTrail:
    """Check a kept trail against the restored database: every entry, its place, and the newest head.

    Raises:
        BadInputError: a line is neither an entry nor a head, or was changed.
        RefusedError: it is not the trail of this fleet, does not carry on the backup's, or has a gap.
    """
    check = _Check(proof=proof, frontier=proof.base)
    with open_input(path) as file:
        for lines in _batches(_lines(file)):
            entries = [one for one in lines if isinstance(one, KeptEntry)]
            known = [one for one in entries if one.number < proof.base.size]
            await _compare_known(store, known)
            if not check.leaves and known == list(lines):
                check.known_lines += len(lines)
            for line in lines:
                check.take(line)
    return check.finish(path)


def entries_after(trail: KeptTrail) -> Iterator[Sequence[KeptEntry]]:
    """Yield the entries of a proven trail that the backup has not, in batches. Raises as `prove`."""
    with open_input(trail.path) as file:
        expected = trail.base
        for lines in _batches(_lines(file, skip=trail.known_lines)):
            found: list[KeptEntry] = []
            for line in lines:
                if isinstance(line, KeptEntry) and line.number == expected:
                    found.append(line)
                    expected += 1
            if found:
                yield found


@dataclass(slots=True, kw_only=True)
class _Check:
    """A check on its way through the lines."""

    proof: Proof
    frontier: Frontier
    proven: SignedHead | None = None
    until: datetime | None = None
    known_lines: int = 0
    leaves: list[bytes] = field(default_factory=list)
    """Of the entries beyond the backup: a kept file may hold an entry twice, never two of one number."""

    def take(self, line: _Line) -> None:
        if isinstance(line, SignedHead):
            self._take_head(line)
            return
        ahead = line.number - self.proof.base.size
        if ahead > len(self.leaves):
            raise RefusedError(
                f"the kept trail has a gap: entry {self.frontier.size} is missing", hint=_EXPORT
            )
        self.until = line.entry.at
        if 0 <= ahead < len(self.leaves):
            self._compare(line, self.leaves[ahead])
        elif ahead == len(self.leaves):
            self.leaves.append(line.leaf_hash)
            self.frontier = self.frontier.append(line.leaf_hash)

    def _compare(self, line: KeptEntry, leaf: bytes) -> None:
        if line.leaf_hash != leaf:
            raise RefusedError(f"the kept trail has two entries of number {line.number}", hint=_EXPORT)

    def _take_head(self, signed: SignedHead) -> None:
        head = signed.head
        is_ours = head.log == self.proof.log and self.proof.is_signed(signed.signature, head.message())
        if not is_ours:
            raise RefusedError(
                f"a head over {head.size} entries is not signed by the audit key of this fleet", hint=_EXPORT
            )
        if head.size == self.frontier.size:
            if head.root != self.frontier.root():
                raise RefusedError(
                    f"the kept trail is not what was signed over {head.size} entries", hint=_EXPORT
                )
            self.proven = signed

    def finish(self, path: Path) -> KeptTrail:
        if self.proven is None or self.proven.head.size != self.frontier.size or self.until is None:
            covered = self.proof.base.size if self.proven is None else self.proven.head.size
            raise RefusedError(
                f"no signed head covers the kept trail from entry {covered} on: it proves nothing",
                hint="export it again, or end it at a line that holds a head",
            )
        return KeptTrail(
            path=path,
            base=self.proof.base.size,
            head=self.proven,
            until=self.until,
            known_lines=self.known_lines,
        )


async def _compare_known(store: Store, known: Sequence[KeptEntry]) -> None:
    """Compare entries that the backup has too with what stands in it."""
    if not known:
        return
    first = min(one.number for one in known)
    stored = await store.read(audit.leaf_hashes, first)
    for one in known:
        if one.leaf_hash not in stored[one.number - first : one.number - first + 1]:
            raise RefusedError(
                f"the kept trail does not carry on the backup's: entry {one.number} is another",
                hint="is it of this fleet, and was the backup made before it?",
            )


def _batches(lines: Iterator[_Line]) -> Iterator[Sequence[_Line]]:
    while batch := list(islice(lines, BATCH)):
        yield batch


def _lines(file: BinaryIO, *, skip: int = 0) -> Iterator[_Line]:
    """Yield what stands in a file's lines, after some that are known; empty lines count for nothing."""
    number = taken = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if line.strip():
            taken += 1
            if taken > skip:
                yield parse_line(line, number)
