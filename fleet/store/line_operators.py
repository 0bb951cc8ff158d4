"""Who works at which station, each with the verifier of a badge or PIN."""

from dataclasses import dataclass
from datetime import datetime

from fleet.ports import Transaction
from fleet.store import columns, times

_COLUMNS = "station, name, verifier, added_at, removed_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOperatorRecord:
    """Somebody who works, or worked, at a station."""

    station: str
    name: str
    verifier: str
    added_at: datetime
    removed_at: datetime | None = None


async def insert_line_operator(tx: Transaction, operator: LineOperatorRecord) -> None:
    """Add somebody whose name is new at the station."""
    await tx.execute(
        f"INSERT INTO line_operators ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
        (
            operator.station,
            operator.name,
            operator.verifier,
            times.text(operator.added_at),
            times.optional_text(operator.removed_at),
        ),
    )


async def list_line_operators(tx: Transaction, station: str) -> tuple[LineOperatorRecord, ...]:
    """Return who works, or worked, at a station, by name."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM line_operators WHERE station = ? ORDER BY name", (station,)
    )
    return tuple(
        LineOperatorRecord(
            station=columns.text(row[0]),
            name=columns.text(row[1]),
            verifier=columns.text(row[2]),
            added_at=times.moment(row[3]),
            removed_at=times.optional_moment(row[4]),
        )
        for row in rows
    )


async def end_line_operator(tx: Transaction, operator: LineOperatorRecord) -> bool:
    """Note that somebody works there no more, and drop the verifier; tell whether he did."""
    row = await tx.fetch_one(
        "UPDATE line_operators SET removed_at = ?, verifier = ''"
        " WHERE station = ? AND name = ? AND removed_at IS NULL RETURNING name",
        (times.optional_text(operator.removed_at), operator.station, operator.name),
    )
    return row is not None
