"""The audit trail that was kept elsewhere: untrusted text, until it is proven to carry on that of a backup.

It is what `fleet audit export` prints: entries as JSON lines, and signed heads between or after them. Nothing
of it counts that no head of the audit key covers.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeAlias

from device_agent.wire.fields import Fields
from device_agent.wire.problems import MalformedMessageError
from fleet.core.audit import SignedHead, entry_hash
from fleet.core.merkle import Frontier
from fleet.errors import BadInputError, RefusedError
from fleet.files import open_input
from fleet.model import AuditEntry
from fleet.ports import Store
from fleet.store import audit
from fleet.store.seal import parse_head

BATCH = 500
"""Entries that are taken at a time."""

_LONGEST_LINE = 1024 * 1024
_LONGEST_TEXT = _LONGEST_LINE
_LARGEST = 2**53
_EXPORT = "fleet audit export prints one"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEntry:
    """An entry with its number, and its leaf hash as computed: what a line says of it is never believed."""

    number: int
    entry: AuditEntry
    leaf_hash: bytes


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
    numbers = {one.number for one in known}
    stored = {one.number: one for one in await store.read(audit.page, min(numbers) - 1)}
    for one in known:
        found = stored.get(one.number)
        if found is None or found.leaf_hash != one.leaf_hash:
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
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if line.strip():
            taken += 1
            if taken > skip:
                yield parse_line(line, number)


def parse_line(line: bytes, number: int) -> KeptEntry | SignedHead:
    """Return what one line of an exported trail holds; `number` is the line's, from 1.

    Raises:
        BadInputError: it is neither an entry nor a head, or an entry that its own hash does not fit.
    """
    try:
        members: object = json.loads(line) if len(line) <= _LONGEST_LINE else None
        if not isinstance(members, dict):
            raise MalformedMessageError("it is no JSON object")
        if "signature" in members:
            return parse_head(line)
        fields = Fields(members)
        position, entry = fields.integer("number", lowest=0, highest=_LARGEST), _entry(fields, members)
        kept = KeptEntry(number=position, entry=entry, leaf_hash=entry_hash(position, entry))
        claimed = fields.sha256("leaf_hash")
    except (ValueError, RecursionError, MalformedMessageError) as error:
        raise BadInputError(f"line {number} of the kept trail is no entry: {error}", hint=_EXPORT) from error
    if kept.leaf_hash.hex() != claimed:
        raise BadInputError(f"line {number} of the kept trail was changed", hint="take another copy of it")
    return kept


def _entry(fields: Fields, members: dict[str, object]) -> AuditEntry:
    return AuditEntry(
        at=fields.time("at"),
        action=fields.text("action", longest=_LONGEST_TEXT),
        actor=fields.text("actor", longest=_LONGEST_TEXT),
        domain=_text(members, "domain"),
        device_id=_text(members, "device_id"),
        serial=_text(members, "serial"),
        details=_details(members.get("details", [])),
    )


def _text(members: dict[str, object], name: str) -> str:
    found = members.get(name, "")
    if isinstance(found, str):
        return found
    raise MalformedMessageError(f"{name} must be text")


def _details(value: object) -> tuple[tuple[str, str], ...]:
    rows = value if isinstance(value, list) else [None]
    found: list[tuple[str, str]] = []
    for row in rows:
        match row:
            case [str() as name, str() as text]:
                found.append((name, text))
            case _:
                raise MalformedMessageError("details must be pairs of texts")
    return tuple(found)
