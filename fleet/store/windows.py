"""Planned renewals: each certificate's moment, how many stand in an hour, and what an outage has held up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.backlog import Held
from fleet.core.windows import hour_of
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times

_COUNT = (
    "INSERT INTO renewal_hours (hour, planned) VALUES (?, 1)"
    " ON CONFLICT (hour) DO UPDATE SET planned = renewal_hours.planned + 1"
)
# Two ways to be held up, each by its index: in its own time, or made due early.
_HELD = (
    "(SELECT serial FROM certificates WHERE renew_after > ? AND renew_after <= ?"
    " AND state IN ('issued', 'active') AND purpose = 'device'"
    " UNION SELECT serial FROM early_renewals WHERE renew_after > ? AND renew_after <= ?) h"
    " JOIN certificates c ON c.serial = h.serial"
    " JOIN devices d ON d.domain = c.domain AND d.device_id = c.device_id AND d.current_serial = c.serial"
    " WHERE c.state IN ('issued', 'active') AND d.retired_at IS NULL AND d.revoked = 0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """When a certificate is to be renewed."""

    serial: str
    renew_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldQuery:
    """Current certificates that were to be renewed after `since`, and at `until` at the latest."""

    since: datetime
    until: datetime
    limit: int = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRenewal:
    """A renewal that was held up."""

    identity: Identity
    serial: str


async def planned_in(tx: Transaction, moments: Sequence[datetime]) -> Mapping[datetime, int]:
    """Return how many renewals are planned in the hours of some moments; an hour with none is left out."""
    hours = {times.text(hour_of(moment)) for moment in moments}
    rows = await tx.fetch_all(
        f"SELECT hour, planned FROM renewal_hours WHERE hour IN ({', '.join('?' * len(hours))})",
        tuple(hours),
    )
    return {times.moment(hour): columns.number(planned) for hour, planned in rows}


async def count_planned(tx: Transaction, moment: datetime) -> None:
    """Count one more renewal that is planned for a moment."""
    await tx.execute(_COUNT, (times.text(hour_of(moment)),))


async def count_held(tx: Transaction, query: HeldQuery) -> tuple[Held, ...]:
    """Return how many were held up, by the hours of their lifetimes, the first to end first."""
    rows = await tx.fetch_all(
        "SELECT SUBSTR(c.not_before, 1, 13), SUBSTR(c.not_after, 1, 13), COUNT(*) FROM "
        f"{_HELD} GROUP BY SUBSTR(c.not_before, 1, 13), SUBSTR(c.not_after, 1, 13) ORDER BY 2, 1",
        _span(query),
    )
    return tuple(
        Held(not_before=_hour(row[0]), not_after=_hour(row[1]), count=columns.number(row[2])) for row in rows
    )


async def held(tx: Transaction, query: HeldQuery) -> tuple[HeldRenewal, ...]:
    """Return what was held up, the first to end first."""
    rows = await tx.fetch_all(
        f"SELECT c.domain, c.device_id, c.serial FROM {_HELD} ORDER BY c.not_after, c.serial LIMIT ?",
        (*_span(query), query.limit),
    )
    return tuple(_held(row) for row in rows)


async def move(tx: Transaction, moved: Sequence[Planned]) -> None:
    """Set other moments, also for what was made due early."""
    await tx.execute_many(
        "UPDATE certificates SET renew_after = ? WHERE serial = ?",
        [(times.text(one.renew_after), one.serial) for one in moved],
    )
    await tx.execute_many(
        "UPDATE early_renewals SET renew_after = ? WHERE serial = ?",
        [(times.text(one.renew_after), one.serial) for one in moved],
    )


async def count_anew(tx: Transaction, now: datetime) -> None:
    """Count the planned renewals as they stand: some were done early, or their devices are gone."""
    await tx.execute("DELETE FROM renewal_hours")
    await tx.execute(
        "INSERT INTO renewal_hours (hour, planned)"
        " SELECT SUBSTR(renew_after, 1, 13) || ':00:00Z', COUNT(*) FROM certificates"
        " WHERE renew_after > ? AND state IN ('issued', 'active') AND purpose = 'device'"
        " GROUP BY SUBSTR(renew_after, 1, 13)",
        (times.text(now),),
    )


def _span(query: HeldQuery) -> tuple[Value, ...]:
    since, until = times.text(query.since), times.text(query.until)
    return (since, until, since, until)


def _held(row: Row) -> HeldRenewal:
    identity = Identity(domain=columns.text(row[0]), device_id=columns.text(row[1]))
    return HeldRenewal(identity=identity, serial=columns.text(row[2]))


def _hour(value: Value) -> datetime:
    return times.moment(f"{columns.text(value)}:00:00Z")
