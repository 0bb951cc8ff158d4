"""The allowlist as text: the whole list, one change, and the digest that both sides compare.

Pure: the guard's `listing.h` reads what stands here. An entry that the guard would not understand is left
out, so that it admits nobody, and cannot make the rest unreadable.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from fleet.core.access import connects
from fleet.errors import SequenceGapError
from fleet.model import Allowlist, AllowlistChange, AllowlistEntry

_DIGEST_MODULUS = 1 << 256
_LINE = re.compile(
    r"(?:[0-9a-f]{2}){1,32} [0-9a-f]{32}(?:[0-9a-f]{8})? [0-9a-f]{64} "
    r"[a-z]+ [1-9][0-9]{0,17} (?:0|[1-9][0-9]{0,17}) [A-Za-z0-9_.:-]{1,128}",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What two sides compare to know that they hold the same list.

    `generation` (16 hex) names the whole list that the changes started from; `digest` is the sum of the
    SHA-256 of every line, modulo 2^256, so that it is the same in any order.
    """

    generation: str
    sequence: int
    count: int = 0
    digest: int = 0

    @property
    def digest_hex(self) -> str:
        return f"{self.digest:064x}"

    def after(self, change: AllowlistChange) -> Self:
        """Return the head after the next change.

        Raises:
            SequenceGapError: it is not the next one.
        """
        if change.sequence != self.sequence + 1:
            raise SequenceGapError(f"change {change.sequence} does not follow change {self.sequence}")
        added, removed = lines_of(change.added), lines_of(change.removed)
        return type(self)(
            generation=self.generation,
            sequence=change.sequence,
            count=self.count + len(added) - len(removed),
            digest=(self.digest + _sum(added) - _sum(removed)) % _DIGEST_MODULUS,
        )


def lines_of(entries: Iterable[AllowlistEntry]) -> list[str]:
    """Return the lines of those entries that a broker can admit."""
    return [line for entry in entries if is_admissible(entry) and _LINE.fullmatch(line := _line_of(entry))]


def is_admissible(entry: AllowlistEntry) -> bool:
    """Say whether certificates of this purpose connect to brokers at all."""
    return connects(entry.purpose)


def whole_list(allowlist: Allowlist, *, generation: str) -> tuple[Head, bytes]:
    """Return a snapshot as the guard reads it, and its head."""
    lines = lines_of(allowlist.entries)
    head = Head(
        generation=generation,
        sequence=allowlist.sequence,
        count=len(lines),
        digest=_sum(lines) % _DIGEST_MODULUS,
    )
    first = f"fleet-allowlist 2 {head.generation} {head.sequence} {head.count}"
    return head, _ended([first, *lines])


def change_text(change: AllowlistChange, *, generation: str) -> bytes:
    """Return a change as the guard reads it; removes go before adds."""
    added, removed = lines_of(change.added), lines_of(change.removed)
    first = f"change {generation} {change.sequence} {len(added)} {len(removed)}"
    return _ended([first, *added, *removed])


def _line_of(entry: AllowlistEntry) -> str:
    not_after = int(entry.not_after.timestamp())
    key = f"{entry.issuer} {entry.serial} {entry.fingerprint}"
    return f"{key} {entry.purpose} {not_after} {entry.access} {entry.name}"


def _sum(lines: Iterable[str]) -> int:
    return sum(int.from_bytes(hashlib.sha256(line.encode()).digest(), "big") for line in lines)


def _ended(lines: Iterable[str]) -> bytes:
    body = "".join(f"{line}\n" for line in lines).encode("ascii")
    return body + f"end {hashlib.sha256(body).hexdigest()}\n".encode()
