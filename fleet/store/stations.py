"""Factory stations, the batches that each may enroll, and what became of their units."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.station_rules import BatchRule, SerialRange, Shift, StationRules
from fleet.model import Purpose
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "name, domain, added_at, closed_at, rate_per_minute, journal, synced_at, clock_ahead"
_UNIT_COLUMNS = "station, domain, device_id, outcome, serial, note, reported_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRecord:
    """A station, and what it may do in its domain."""

    name: str
    domain: str
    rules: StationRules
    added_at: datetime
    closed_at: datetime | None = None
    journal: int = 1
    """Which of its journals is taken."""
    synced_at: datetime | None = None
    clock_ahead: int | None = None
    """Of the station's clock, in seconds, at the last sync."""

    @property
    def batches(self) -> tuple[str, ...]:
        """The batches that it may enroll units of."""
        return tuple(one.batch for one in self.rules.batches)


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
        "INSERT INTO stations (name, domain, added_at, closed_at) VALUES (?, ?, ?, ?)",
        (
            station.name,
            station.domain,
            times.text(station.added_at),
            times.optional_text(station.closed_at),
        ),
    )
    await save_rules(tx, station)


async def save_rules(tx: Transaction, station: StationRecord) -> None:
    """Make the rules of a known station those of the record; what its batches used stays counted."""
    name, rules = station.name, station.rules
    await tx.execute("UPDATE stations SET rate_per_minute = ? WHERE name = ?", (rules.rate_per_minute, name))
    known = {
        columns.text(batch)
        for (batch,) in await tx.fetch_all("SELECT batch FROM station_batches WHERE station = ?", (name,))
    }
    for batch in known - set(station.batches):
        await tx.execute("DELETE FROM station_batches WHERE station = ? AND batch = ?", (name, batch))
    await tx.execute_many(
        "INSERT INTO station_batches (station, domain, batch, quota) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (station, domain, batch) DO UPDATE SET quota = excluded.quota",
        [(name, station.domain, one.batch, one.quota) for one in rules.batches],
    )
    await tx.execute("DELETE FROM station_serials WHERE station = ?", (name,))
    await tx.execute_many(
        "INSERT INTO station_serials (station, batch, serials) VALUES (?, ?, ?)",
        [(name, one.batch, str(each)) for one in rules.batches for each in one.ranges],
    )
    await tx.execute("DELETE FROM station_shifts WHERE station = ?", (name,))
    await tx.execute_many(
        "INSERT INTO station_shifts (station, shift) VALUES (?, ?)",
        [(name, text) for text in dict.fromkeys(map(str, rules.shifts))],
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


async def count_unit(tx: Transaction, unit: StationUnit) -> None:
    """Record a unit as `record_unit`, and count it for its batch, the first time that it is one of these."""
    if not await is_unit_of(tx, unit.station, unit.identity):
        await tx.execute(
            "UPDATE station_batches SET used = used + 1 WHERE station = ? AND domain = ? AND batch ="
            " (SELECT batch FROM devices WHERE domain = ? AND device_id = ?)",
            (unit.station, unit.identity.domain, unit.identity.domain, unit.identity.device_id),
        )
    await record_unit(tx, unit)


async def list_units(tx: Transaction, station: str) -> tuple[StationUnit, ...]:
    """Return what a station did, by device."""
    rows = await tx.fetch_all(
        f"SELECT {_UNIT_COLUMNS} FROM station_units WHERE station = ? ORDER BY domain, device_id",
        (station,),
    )
    return tuple(_unit(row) for row in rows)


async def used_of(tx: Transaction, station: str) -> dict[str, int]:
    """Return how many units of each batch were counted for a station, enrolled or leased."""
    rows = await tx.fetch_all("SELECT batch, used FROM station_batches WHERE station = ?", (station,))
    return {columns.text(batch): columns.number(used) for batch, used in rows}


async def count_units(tx: Transaction, station: str, batch: str, *, units: int) -> None:
    """Count units of a batch for a station; less than none gives them back."""
    await tx.execute(
        "UPDATE station_batches SET used = used + ? WHERE station = ? AND batch = ?", (units, station, batch)
    )


async def count_rate(tx: Transaction, station: str, *, at: datetime) -> int:
    """Count one more unit in this minute, and return how many it has."""
    minute = times.text(at)[:16]
    row = await tx.fetch_one("SELECT rate_minute, rate_count FROM stations WHERE name = ?", (station,))
    count = columns.number(row[1]) if row is not None and row[0] == minute else 0
    await tx.execute(
        "UPDATE stations SET rate_minute = ?, rate_count = ? WHERE name = ?", (minute, count + 1, station)
    )
    return count + 1


async def is_unit_of(tx: Transaction, station: str, identity: Identity) -> bool:
    """Tell whether a device is one of a station's units."""
    row = await tx.fetch_one(
        "SELECT 1 FROM station_units WHERE station = ? AND domain = ? AND device_id = ?",
        (station, identity.domain, identity.device_id),
    )
    return row is not None


async def _station(tx: Transaction, row: Row) -> StationRecord:
    name = columns.text(row[0])
    return StationRecord(
        name=name,
        domain=columns.text(row[1]),
        rules=await _rules(tx, name, rate=columns.optional_number(row[4])),
        added_at=times.moment(row[2]),
        closed_at=times.optional_moment(row[3]),
        journal=columns.number(row[5]),
        synced_at=times.optional_moment(row[6]),
        clock_ahead=columns.optional_number(row[7]),
    )


async def _rules(tx: Transaction, name: str, *, rate: int | None) -> StationRules:
    batches = await tx.fetch_all(
        "SELECT batch, quota FROM station_batches WHERE station = ? ORDER BY batch", (name,)
    )
    serials = await tx.fetch_all(
        "SELECT batch, serials FROM station_serials WHERE station = ? ORDER BY batch, serials", (name,)
    )
    shifts = await tx.fetch_all("SELECT shift FROM station_shifts WHERE station = ? ORDER BY shift", (name,))
    return StationRules(
        batches=tuple(
            BatchRule(
                batch=columns.text(batch),
                quota=columns.optional_number(quota),
                ranges=tuple(SerialRange.parse(columns.text(one[1])) for one in serials if one[0] == batch),
            )
            for batch, quota in batches
        ),
        rate_per_minute=rate,
        shifts=tuple(Shift.parse(columns.text(shift)) for (shift,) in shifts),
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
