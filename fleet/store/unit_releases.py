"""What operators decided about units in quarantine, until the station of each knows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.core.journal import Kind
from fleet.ports import Transaction
from fleet.store import columns, times

MOST = 200
"""Told to a station at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A unit as its station told of it."""

    station: str
    hardware: str
    device_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecord:
    """A decision; `fate` is `use` or `rework`, `number` is 0 before it is kept."""

    unit: Quarantined
    fate: str
    actor: str
    reason: str
    released_at: datetime
    number: int = 0


async def find_quarantined(tx: Transaction, unit: str) -> Quarantined | None:
    """Return the unit of a hardware id, or else of a device id, whose quarantine was told last."""
    row = await tx.fetch_one(
        "SELECT station, hardware, device_id FROM station_journal WHERE kind = ?"
        " AND (hardware = ? OR device_id = ?)"
        " ORDER BY CASE WHEN hardware = ? THEN 0 ELSE 1 END, at DESC, number DESC LIMIT 1",
        (Kind.QUARANTINED.value, unit, unit, unit),
    )
    if row is None:
        return None
    return Quarantined(
        station=columns.text(row[0]), hardware=columns.text(row[1]), device_id=columns.text(row[2])
    )


async def insert_release(tx: Transaction, release: ReleaseRecord) -> None:
    """Keep a decision; it is the next one."""
    await tx.execute(
        "INSERT INTO unit_releases (number, station, hardware, device_id, fate, actor, reason, released_at)"
        " SELECT coalesce(max(number), 0) + 1, ?, ?, ?, ?, ?, ?, ? FROM unit_releases",
        (
            release.unit.station,
            release.unit.hardware,
            release.unit.device_id,
            release.fate,
            release.actor,
            release.reason,
            times.text(release.released_at),
        ),
    )


async def take_releases(tx: Transaction, station: str, numbers: Sequence[int], *, at: datetime) -> None:
    """Note that a station has these decisions; those of others are left alone."""
    await tx.execute_many(
        "UPDATE unit_releases SET taken_at = ? WHERE number = ? AND station = ? AND taken_at IS NULL",
        [(times.text(at), number, station) for number in numbers],
    )


async def waiting_releases(tx: Transaction, station: str) -> tuple[ReleaseRecord, ...]:
    """Return what a station was not told yet, the oldest first."""
    rows = await tx.fetch_all(
        "SELECT number, hardware, device_id, fate, actor, reason, released_at FROM unit_releases"
        " WHERE station = ? AND taken_at IS NULL ORDER BY number LIMIT ?",
        (station, MOST),
    )
    return tuple(
        ReleaseRecord(
            number=columns.number(row[0]),
            unit=Quarantined(station=station, hardware=columns.text(row[1]), device_id=columns.text(row[2])),
            fate=columns.text(row[3]),
            actor=columns.text(row[4]),
            reason=columns.text(row[5]),
            released_at=times.moment(row[6]),
        )
        for row in rows
    )
