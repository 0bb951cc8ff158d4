"""The journal of a station: what it did, entry after entry, so that none can be left out or changed.

Each entry has the next number, holds the hash of the one before, and is signed with the station's key. Both
sides read it with this module. It signs and stores nothing, and trusts nobody's word for a number.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from device_agent.wire.fields import Fields, parse_object, time_text
from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError

GENESIS = "0" * 64
"""What the first entry names as the hash before it."""
MAX_ENTRY_BYTES = 4096
MAX_NUMBER = 2**53 - 1
_LONGEST_DETAIL = 2048
_SIGNED = b"fleet-journal-v1\0"
_VERSION = 1


class Kind(StrEnum):
    """What an entry tells of."""

    OPENED = "opened"
    """The journal begins."""
    ISSUED = "issued"
    """The server made a certificate for a unit, and it is kept here."""
    MADE = "made"
    """The station's own CA made one, under a lease; the certificate itself stands in the entry."""
    RENUMBERED = "renumbered"
    """A unit got another id: the one that was counted for it was given to another one elsewhere."""
    COMMITTED = "committed"
    """The unit uses its certificate."""
    ATTEMPT = "attempt"
    """One visit of a unit, and how it ended."""
    QUARANTINED = "quarantined"
    RELEASED = "released"
    REWORK = "rework"
    """Released, to be made anew."""
    LEASED = "leased"
    """A lease was taken into use."""
    SIGNED_ON = "signed-on"
    """A line operator begins."""


class Outcome(StrEnum):
    """How a visit of a unit ended."""

    PASSED = "passed"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class Fault(StrEnum):
    """What is wrong with an entry where it stands."""

    MALFORMED = "malformed"
    """It is no entry, or longer than one may be."""
    STRANGER = "stranger"
    """It is of another station's journal."""
    FORGED = "forged"
    """No key of this station signed it as it stands."""
    GAP = "gap"
    """Entries before it are missing."""
    REWRITTEN = "rewritten"
    """Another entry of this number was there before: a journal does not change."""
    UNCHAINED = "unchained"
    """It does not hold the hash of the entry before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry; `signer` is the serial of the station's certificate whose key signs it."""

    station: str
    number: int
    """From 1, without gaps."""
    at: datetime
    """By the station's clock, whole seconds."""
    kind: Kind
    previous: str
    """Hex SHA-256 of the entry before, `GENESIS` in the first one."""
    signer: str
    details: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the entry as bytes, always the same for the same entry."""
        members = {
            "v": _VERSION,
            "station": self.station,
            "n": self.number,
            "at": time_text(self.at),
            "kind": self.kind.value,
            "prev": self.previous,
            "by": self.signer,
            "details": dict(self.details),
        }
        return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()

    def detail(self, name: str) -> str:
        """Return a detail, or the empty text."""
        return self.details.get(name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedEntry:
    """An entry's bytes as they were signed, and the signature (ECDSA with SHA-256, DER)."""

    octets: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far a journal has come: the number and the hash of its last entry."""

    number: int = 0
    digest: str = GENESIS


def parse_entry(octets: bytes) -> Entry:
    """Return the entry that bytes hold.

    Raises:
        MalformedMessageError: they hold none, or one that is written otherwise than `encode` does.
    """
    if len(octets) > MAX_ENTRY_BYTES:
        raise MalformedMessageError(f"a journal entry has at most {MAX_ENTRY_BYTES} bytes")
    members = parse_object(octets)
    entry = Entry(
        station=parse_domain(members.text("station", longest=32)),
        number=members.integer("n", lowest=1, highest=MAX_NUMBER),
        at=members.time("at"),
        kind=members.word("kind", of=Kind),
        previous=members.sha256("prev"),
        signer=members.serial("by"),
        details=_details(members),
    )
    if entry.encode() != octets:
        # One entry, one text: else its hash would be whatever its writer likes.
        raise MalformedMessageError("a journal entry is written in one way only")
    return entry


def _details(members: Fields) -> Mapping[str, str]:
    found = members.text_members("details", longest=_LONGEST_DETAIL)
    if not all(text.isprintable() for pair in found.items() for text in pair):
        raise MalformedMessageError("the details of a journal entry must be printable")
    return found


def digest_of(octets: bytes) -> str:
    """Return the hex SHA-256 of an entry's bytes, which the next entry holds."""
    return hashlib.sha256(octets).hexdigest()


def signed_text(octets: bytes) -> bytes:
    """Return what is signed of an entry: nothing else that a station signs begins so."""
    return _SIGNED + octets


def after(head: Head, octets: bytes) -> Head:
    """Return the head once an entry stands behind it."""
    return Head(number=head.number + 1, digest=digest_of(octets))


def misplaced(head: Head, entry: Entry, *, station: str) -> Fault | None:
    """Return what is wrong with an entry as the next one after a head; None if nothing is.

    The caller has looked at its signature, and at what stood under its number before.
    """
    if entry.station != station:
        return Fault.STRANGER
    if entry.number > head.number + 1:
        return Fault.GAP
    if entry.number <= head.number:
        return Fault.REWRITTEN
    if entry.previous != head.digest:
        return Fault.UNCHAINED
    return None
