"""Factory stations, the batches that each may enroll, and what became of their units."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.model import Purpose
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "name, domain, added_at, closed_at"
_UNIT_COLUMNS = "station, domain, device_id, outcome, serial, note, reported_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRecord:
    """A station; `batches` are those of its domain that it may enroll units of."""

    name: str
    domain: str
    batches: tuple[str, ...]
    added_at: datetime
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationUnit:
    """What a station last did with a unit: `enrolled`, `committed` or `quarantined`."""

    station: str
    identity: Identity
    outcome: str
    serial: str
    note: str
    reported_at: datetime


async def insert_station(tx: Transaction, station: StationRecord) -> None:
    """Add a station; its batches must be there."""
    await tx.execute(
        f"INSERT INTO stations ({_COLUMNS}) VALUES (?, ?, ?, ?)",
        (
            station.name,
            station.domain,
            times.text(station.added_at),
            times.optional_text(station.closed_at),
        ),
    )
    await tx.execute_many(
        "INSERT INTO station_batches (station, domain, batch) VALUES (?, ?, ?)",
        [(station.name, station.domain, batch) for batch in station.batches],
    )


async def load_station(tx: Transaction, name: str) -> StationRecord | None:
    """Return a station by its name."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM stations WHERE name = ?", (name,))
    return None if row is None else await _station(tx, row)


async def station_of(tx: Transaction, serial: str) -> StationRecord | None:
    """Return the station that a station's certificate belongs to."""
    row = await tx.fetch_one(
        "SELECT name FROM certificates WHERE serial = ? AND purpose = ?", (serial, Purpose.STATION.value)
    )
    return None if row is None else await load_station(tx, columns.text(row[0]))


async def enrolled_by(tx: Transaction, serial: str) -> str | None:
    """Return the name of the station that a device's certificate was enrolled by."""
    row = await tx.fetch_one(
        "SELECT k.source FROM certificates c JOIN codes k ON k.code_id = c.code_id"
        " WHERE c.serial = ? AND k.kind = 'station'",
        (serial,),
    )
    return None if row is None else columns.text(row[0])


async def list_stations(tx: Transaction, domain: str) -> tuple[StationRecord, ...]:
    """Return the stations of a domain, or of all, if it is empty."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM stations WHERE ? IN ('', domain) ORDER BY name",
        (domain,),
    )
    return tuple([await _station(tx, row) for row in rows])


async def close_station(tx: Transaction, name: str, *, at: datetime) -> None:
    """Close a station for good."""
    await tx.execute(
        "UPDATE stations SET closed_at = ? WHERE name = ? AND closed_at IS NULL", (times.text(at), name)
    )


async def record_unit(tx: Transaction, unit: StationUnit) -> None:
    """Remember what a station did with a unit, instead of what it did before."""
    await tx.execute(
        f"INSERT INTO station_units ({_UNIT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (station, domain, device_id) DO UPDATE SET outcome = excluded.outcome,"
        " serial = excluded.serial, note = excluded.note, reported_at = excluded.reported_at",
        (
            unit.station,
            unit.identity.domain,
            unit.identity.device_id,
            unit.outcome,
            unit.serial,
            unit.note,
            times.text(unit.reported_at),
        ),
    )


async def list_units(tx: Transaction, station: str) -> tuple[StationUnit, ...]:
    """Return what a station did, by device."""
    rows = await tx.fetch_all(
        f"SELECT {_UNIT_COLUMNS} FROM station_units WHERE station = ? ORDER BY domain, device_id",
        (station,),
    )
    return tuple(_unit(row) for row in rows)


async def _station(tx: Transaction, row: Row) -> StationRecord:
    name = columns.text(row[0])
    batches = await tx.fetch_all(
        "SELECT batch FROM station_batches WHERE station = ? ORDER BY batch", (name,)
    )
    return StationRecord(
        name=name,
        domain=columns.text(row[1]),
        batches=tuple(columns.text(batch) for (batch,) in batches),
        added_at=times.moment(row[2]),
        closed_at=times.optional_moment(row[3]),
    )


def _unit(row: Sequence[str | float | bytes | None]) -> StationUnit:
    station, domain, device_id, outcome, serial, note, reported_at = row
    return StationUnit(
        station=columns.text(station),
        identity=Identity(domain=columns.text(domain), device_id=columns.text(device_id)),
        outcome=columns.text(outcome),
        serial=columns.text(serial),
        note=columns.text(note),
        reported_at=times.moment(reported_at),
    )
