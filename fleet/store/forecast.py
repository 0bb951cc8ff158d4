"""How many certificates end on which day."""

from datetime import date, datetime

from fleet.core.forecast import Ends
from fleet.model import Purpose
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_LIVE = "state IN ('issued', 'active')"
_DAY = "SUBSTR(not_after, 1, 10)"


async def ends(tx: Transaction, before: datetime) -> tuple[Ends, ...]:
    """Return what ends before a moment: each domain's devices, and each purpose of our own, by day."""
    rows = await tx.fetch_all(
        f"SELECT purpose, domain, {_DAY}, COUNT(*) FROM certificates WHERE {_LIVE} AND not_after < ?"
        f" AND purpose <> ? GROUP BY purpose, domain, {_DAY} ORDER BY purpose, domain, {_DAY}",
        (times.text(before), Purpose.AUTHORITY.value),
    )
    return tuple(_ends(row) for row in rows)


async def device_ends(tx: Transaction, before: datetime) -> tuple[Ends, ...]:
    """Return how many devices' certificates end before a moment, by day."""
    rows = await tx.fetch_all(
        f"SELECT purpose, '', {_DAY}, COUNT(*) FROM certificates WHERE {_LIVE} AND not_after < ?"
        f" AND purpose = ? GROUP BY purpose, {_DAY} ORDER BY {_DAY}",
        (times.text(before), Purpose.DEVICE.value),
    )
    return tuple(_ends(row) for row in rows)


def _ends(row: Row) -> Ends:
    purpose, domain = columns.text(row[0]), columns.text(row[1])
    kind = f"{purpose} {domain}" if domain else purpose
    return Ends(kind=kind, day=date.fromisoformat(columns.text(row[2])), count=columns.number(row[3]))
