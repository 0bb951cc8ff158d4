"""The journal of this station, in its ledger's file: an entry is on the disk with the step that it tells of.

It appends and hands out; it never changes an entry, and takes none from anywhere else.
"""

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from fleet.core.journal import Entry, Head, Kind, SignedEntry, digest_of, parse_entry, signed_text
from fleet.station.own.identity import StationIdentity

_LONGEST_DETAIL = 2048


class Journal:
    """Every method runs inside a transaction of the ledger; `identity` signs the entries from now on."""

    __slots__ = ("identity",)

    def __init__(self, identity: StationIdentity) -> None:
        self.identity = identity

    def append(self, db: sqlite3.Connection, kind: Kind, details: Mapping[str, str], *, at: datetime) -> None:
        """Write the next entry; the first one of a file follows one that opens the journal."""
        head = self.head(db)
        if head.number == 0 and kind is not Kind.OPENED:
            self.append(db, Kind.OPENED, {}, at=at)
            head = self.head(db)
        entry = Entry(
            station=self.identity.name,
            number=head.number + 1,
            at=at,
            kind=kind,
            previous=head.digest,
            signer=self.identity.serial,
            details={name: _printable(value) for name, value in details.items() if value},
        )
        octets = entry.encode()
        signature = self.identity.sign(signed_text(octets))
        db.execute(
            "INSERT INTO journal (number, entry, signature, hash) VALUES (?, ?, ?, ?)",
            (entry.number, octets, signature, digest_of(octets)),
        )

    def head(self, db: sqlite3.Connection) -> Head:
        """Return how far the journal has come."""
        row = db.execute("SELECT number, hash FROM journal ORDER BY number DESC LIMIT 1").fetchone()
        return Head() if row is None else Head(number=int(row[0]), digest=str(row[1]))

    def latest(self, db: sqlite3.Connection) -> datetime | None:
        """Return when the last entry was written: that time is over."""
        row = db.execute("SELECT entry FROM journal ORDER BY number DESC LIMIT 1").fetchone()
        return None if row is None else parse_entry(bytes(row[0])).at

    def after(self, db: sqlite3.Connection, number: int, *, most: int) -> tuple[SignedEntry, ...]:
        """Return the entries that follow a number, `most` of them at most."""
        rows = db.execute(
            "SELECT entry, signature FROM journal WHERE number > ? ORDER BY number LIMIT ?", (number, most)
        )
        return tuple(SignedEntry(octets=bytes(row[0]), signature=bytes(row[1])) for row in rows.fetchall())


def _printable(text: str) -> str:
    """Return a detail as an entry can hold it: parts of a reason may come from a unit.

    It is as long as it is written: an entry that is too long is one that the server never takes.
    """
    found, room = list[str](), _LONGEST_DETAIL
    for letter in text:
        sign = letter if letter.isprintable() else "?"
        room -= _written(sign)
        if room < 0:
            break
        found.append(sign)
    return "".join(found)


def _written(sign: str) -> int:
    """Return how many characters JSON in ASCII needs for a printable sign (RFC 8259 7)."""
    if sign.isascii():
        return 2 if sign in {'"', "\\"} else 1
    return 6 if sign <= "\uffff" else 12
