"""The journals of stations as their server took them, and what was found wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.core.journal import GENESIS, Entry, Head, Kind, SignedEntry, digest_of, parse_entry
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = (
    "station, journal, number, hash, received_at, entry, signature, at, kind, hardware, device_id, serial,"
    " batch, operator, outcome, cause, attempt"
)
_LONGEST_ATTEMPT = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalKey:
    """One journal of a station; it may have begun several."""

    station: str
    journal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An entry that was found right, as it came."""

    entry: Entry
    signed: SignedEntry
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong with a station, or with what it handed in; found once."""

    station: str
    kind: str
    about: str
    """An entry's number, a serial, a device id, a day."""
    detail: str
    found_at: datetime


async def head_of(tx: Transaction, key: JournalKey) -> Head:
    """Return how far a journal has come here."""
    row = await tx.fetch_one(
        "SELECT number, hash FROM station_journal WHERE station = ? AND journal = ?"
        " ORDER BY number DESC LIMIT 1",
        (key.station, key.journal),
    )
    if row is None:
        return Head(number=0, digest=GENESIS)
    return Head(number=columns.number(row[0]), digest=columns.text(row[1]))


async def digest_at(tx: Transaction, key: JournalKey, number: int) -> str | None:
    """Return the hash of an entry that was taken, or None."""
    row = await tx.fetch_one(
        "SELECT hash FROM station_journal WHERE station = ? AND journal = ? AND number = ?",
        (key.station, key.journal, number),
    )
    return None if row is None else columns.text(row[0])


async def time_at(tx: Transaction, key: JournalKey, number: int) -> datetime | None:
    """Return when an entry that was taken was written, by the station's clock; None where there is none."""
    row = await tx.fetch_one(
        "SELECT at FROM station_journal WHERE station = ? AND journal = ? AND number = ?",
        (key.station, key.journal, number),
    )
    return None if row is None else times.moment(row[0])


async def latest_before(tx: Transaction, place: tuple[JournalKey, int]) -> datetime | None:
    """Return the latest time that the entries before a number hold; None before the first one."""
    key, number = place
    row = await tx.fetch_one(
        "SELECT at FROM station_journal WHERE station = ? AND journal = ? AND number < ?"
        " ORDER BY at DESC LIMIT 1",
        (key.station, key.journal, number),
    )
    return None if row is None else times.moment(row[0])


async def insert_entries(tx: Transaction, key: JournalKey, entries: Sequence[Taken]) -> None:
    """Keep entries; the caller has found them right, in their order."""
    marks = ", ".join("?" * 17)
    await tx.execute_many(
        f"INSERT INTO station_journal ({_COLUMNS}) VALUES ({marks})", [_row(key, one) for one in entries]
    )


async def waiting_made(tx: Transaction, key: JournalKey) -> tuple[Entry, ...]:
    """Return the entries of certificates made off line that nobody has judged yet, in their order."""
    rows = await tx.fetch_all(
        "SELECT entry FROM station_journal j WHERE station = ? AND journal = ? AND kind = ?"
        " AND NOT EXISTS (SELECT 1 FROM station_lease_uses u WHERE u.serial = j.serial)"
        " AND NOT EXISTS (SELECT 1 FROM station_findings f WHERE f.station = j.station"
        " AND f.kind = 'offline' AND f.about = j.serial) ORDER BY number LIMIT 1000",
        (key.station, key.journal, Kind.MADE.value),
    )
    return tuple(parse_entry(columns.text(entry).encode("ascii")) for (entry,) in rows)


async def given_with(tx: Transaction, serial: str, *, station: str) -> str:
    """Return what a unit got with a certificate, as the station that made it told; empty if it did not."""
    row = await tx.fetch_one(
        "SELECT entry FROM station_journal WHERE serial = ? AND station = ? AND kind IN (?, ?)"
        " ORDER BY journal DESC, number DESC LIMIT 1",
        (serial, station, Kind.ISSUED.value, Kind.MADE.value),
    )
    return "" if row is None else parse_entry(columns.text(row[0]).encode("ascii")).details.get("given", "")


async def leased(tx: Transaction, key: JournalKey) -> tuple[Entry, ...]:
    """Return the entries of leases that were taken into use."""
    rows = await tx.fetch_all(
        "SELECT entry FROM station_journal WHERE station = ? AND journal = ? AND kind = ? ORDER BY number",
        (key.station, key.journal, Kind.LEASED.value),
    )
    return tuple(parse_entry(columns.text(entry).encode("ascii")) for (entry,) in rows)


async def note_finding(tx: Transaction, finding: Finding) -> bool:
    """Keep a finding; tell whether it is new."""
    row = await tx.fetch_one(
        "INSERT INTO station_findings (station, kind, about, detail, found_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (station, kind, about) DO NOTHING RETURNING station",
        (finding.station, finding.kind, finding.about, finding.detail, times.text(finding.found_at)),
    )
    return row is not None


async def list_findings(tx: Transaction, station: str) -> tuple[Finding, ...]:
    """Return what was found of a station, or of all, if it is empty; the oldest first."""
    rows = await tx.fetch_all(
        "SELECT station, kind, about, detail, found_at FROM station_findings WHERE ? IN ('', station)"
        " ORDER BY found_at, station, kind, about",
        (station,),
    )
    return tuple(_finding(row) for row in rows)


async def note_sync(tx: Transaction, station: str, *, at: datetime, ahead: int) -> None:
    """Remember when a station was heard of, and how far its clock is ahead, in seconds."""
    await tx.execute(
        "UPDATE stations SET synced_at = ?, clock_ahead = ? WHERE name = ?", (times.text(at), ahead, station)
    )


async def begin_journal(tx: Transaction, station: str) -> None:
    """Take another journal from a station from now on; those before are kept."""
    await tx.execute("UPDATE stations SET journal = journal + 1 WHERE name = ?", (station,))


def _row(key: JournalKey, taken: Taken) -> tuple[str | int | bytes, ...]:
    entry = taken.entry
    attempt = entry.detail("attempt")[:_LONGEST_ATTEMPT]
    return (
        key.station,
        key.journal,
        entry.number,
        digest_of(taken.signed.octets),
        times.text(taken.received_at),
        taken.signed.octets.decode("ascii"),
        taken.signed.signature,
        times.text(entry.at),
        entry.kind.value,
        *(
            entry.detail(name)
            for name in ("hardware", "device", "serial", "batch", "operator", "outcome", "cause")
        ),
        int(attempt) if attempt.isdecimal() and attempt.isascii() else 0,
    )


def _finding(row: Row) -> Finding:
    station, kind, about, detail, found_at = row
    return Finding(
        station=columns.text(station),
        kind=columns.text(kind),
        about=columns.text(about),
        detail=columns.text(detail),
        found_at=times.moment(found_at),
    )
