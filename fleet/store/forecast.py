"""How many certificates end on which day, which devices first, and how many renewals are planned."""

from dataclasses import dataclass
from datetime import date, datetime

from device_agent.wire.identity import Identity
from fleet.core.forecast import Ends, PlannedHour
from fleet.core.query import Condition, Everything
from fleet.model import Purpose
from fleet.ports import Row, Transaction
from fleet.store import columns, times
from fleet.store.groups import asked_groups
from fleet.store.search import Sql, where

_LIVE = "c.state IN ('issued', 'active')"
_DAY = "SUBSTR(c.not_after, 1, 10)"
_OF_DEVICES = "certificates c JOIN devices d ON d.domain = c.domain AND d.device_id = c.device_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndsQuery:
    """Devices' certificates that end before a moment; `now` is what relative times of a query count from."""

    before: datetime
    now: datetime
    among: Condition | None = None
    limit: int = 100
    """How many are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A device, and when its certificate ends."""

    identity: Identity
    not_after: datetime


async def own_ends(tx: Transaction, before: datetime) -> tuple[Ends, ...]:
    """Return what of our own ends before a moment, of each purpose, by day; no devices, and no CAs."""
    rows = await tx.fetch_all(
        f"SELECT c.purpose, c.domain, {_DAY}, COUNT(*) FROM certificates c WHERE {_LIVE} AND c.not_after < ?"
        f" AND c.purpose NOT IN (?, ?) GROUP BY c.purpose, c.domain, {_DAY}"
        f" ORDER BY c.purpose, c.domain, {_DAY}",
        (times.text(before), Purpose.AUTHORITY.value, Purpose.DEVICE.value),
    )
    return tuple(_ends(row) for row in rows)


async def device_ends(tx: Transaction, query: EndsQuery) -> tuple[Ends, ...]:
    """Return how many devices' certificates end before a moment, by domain and day."""
    source, found = await _ending(tx, query)
    rows = await tx.fetch_all(
        f"SELECT c.purpose, c.domain, {_DAY}, COUNT(*) FROM {source} WHERE {found.text}"
        f" GROUP BY c.purpose, c.domain, {_DAY} ORDER BY c.domain, {_DAY}",
        found.values,
    )
    return tuple(_ends(row) for row in rows)


async def first_to_end(tx: Transaction, query: EndsQuery) -> tuple[Ending, ...]:
    """Return the devices whose certificates end first."""
    source, found = await _ending(tx, query)
    rows = await tx.fetch_all(
        f"SELECT c.domain, c.device_id, c.not_after FROM {source} WHERE {found.text}"
        " ORDER BY c.not_after, c.serial LIMIT ?",
        (*found.values, query.limit),
    )
    return tuple(
        Ending(
            identity=Identity(domain=columns.text(row[0]), device_id=columns.text(row[1])),
            not_after=times.moment(row[2]),
        )
        for row in rows
    )


async def planned_hours(tx: Transaction, before: datetime) -> tuple[PlannedHour, ...]:
    """Return how many renewals are planned in each hour before a moment."""
    rows = await tx.fetch_all(
        "SELECT hour, planned FROM renewal_hours WHERE hour < ? ORDER BY hour", (times.text(before),)
    )
    return tuple(PlannedHour(hour=times.moment(hour), count=columns.number(count)) for hour, count in rows)


async def _ending(tx: Transaction, query: EndsQuery) -> tuple[str, Sql]:
    """Return from where to read, and on what condition; devices are looked at only where a query asks."""
    text, values = f"{_LIVE} AND c.not_after < ? AND c.purpose = ?", (times.text(query.before), "device")
    if query.among is None or isinstance(query.among, Everything):
        return "certificates c", Sql(text=text, values=values)
    among = where(await asked_groups(tx, query.among), now=query.now)
    return _OF_DEVICES, Sql(text=f"{text} AND ({among.text})", values=(*values, *among.values))


def _ends(row: Row) -> Ends:
    purpose, domain = columns.text(row[0]), columns.text(row[1])
    kind = f"{purpose} {domain}" if domain else purpose
    return Ends(kind=kind, day=date.fromisoformat(columns.text(row[2])), count=columns.number(row[3]))
