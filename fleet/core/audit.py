"""What of an audit entry is hashed, and what of a tree head is signed: one encoding, for ever.

It never changes for entries that exist: a new form needs a new first word.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.fields import time_text
from fleet.core.merkle import leaf_hash
from fleet.model import AuditEntry

_ENTRY = "fleet-audit-entry-v1"
_HEAD = "fleet-audit-head-v1"

ARCHIVED = "audit.archived"
"""Action of the entry that tells that all entries up to number `LAST`, a detail of it, stand in files."""
LAST = "last"
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """A promise about the first `size` entries of the log `log`, made at `at`."""

    log: str
    """Name of the fleet."""
    size: int
    root: bytes
    at: datetime

    def message(self) -> bytes:
        """Return the bytes that are signed."""
        lines = (_HEAD, self.log, str(self.size), self.root.hex(), time_text(self.at))
        return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A tree head and the signature over its message."""

    head: TreeHead
    signature: bytes


def encode_entry(number: int, entry: AuditEntry) -> bytes:
    """Return the bytes that stand for an entry in the tree.

    Each field is preceded by its length in 4 octets, so that no two entries share an encoding; the
    number is one of them, so that an entry that was moved is seen by itself. Times count in whole seconds.
    """
    fields = [
        _ENTRY,
        str(number),
        time_text(entry.at),
        entry.action,
        entry.actor,
        entry.domain,
        entry.device_id,
        entry.serial,
    ]
    for name, value in entry.details:
        fields += [name, value]
    return b"".join(_with_lengths(fields))


def entry_hash(number: int, entry: AuditEntry) -> bytes:
    """Return the leaf hash of an entry."""
    return leaf_hash(encode_entry(number, entry))


def archived_end(entry: AuditEntry) -> int:
    """Return the number of the first entry that may not have left, as one entry tells; else 0."""
    last = dict(entry.details).get(LAST, "") if entry.action == ARCHIVED else ""
    return int(last) + 1 if _NUMBER.fullmatch(last) else 0


def _with_lengths(fields: Iterable[str]) -> Iterable[bytes]:
    for field in fields:
        octets = field.encode("utf-8")
        yield len(octets).to_bytes(4, "big")
        yield octets
