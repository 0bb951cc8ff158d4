"""Counts what a plan would do, over the devices that were written for its draft; nothing is read whole."""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.query import Condition
from fleet.core.query_text import parse_query
from fleet.core.rollout_plan import Matching, Plan
from fleet.ports import Transaction, Value
from fleet.store import columns, times
from fleet.store.groups import asked_groups
from fleet.store.rollout_devices import DEVICE
from fleet.store.search import Sql, where


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Which draft is looked at, and when."""

    rollout: int
    plan: Plan
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What was counted."""

    selected: int
    in_service: int
    unassigned: int
    elsewhere: int
    overlaps: tuple[tuple[int, int], ...]
    taken: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Devices of a draft that were seen since a time, with certificates that end between now and a time."""

    rollout: int
    seen_since: datetime
    now: datetime
    before: datetime


async def survey(tx: Transaction, asked: Survey) -> Surveyed:
    """Count what a plan would do."""
    number = asked.rollout
    return Surveyed(
        selected=await _count(tx, "FROM rollout_devices WHERE rollout = ?", (number,)),
        in_service=await _count(tx, _IN_SERVICE, ()),
        unassigned=await _count(tx, "FROM rollout_devices WHERE rollout = ? AND wave = 0", (number,)),
        elsewhere=await _elsewhere(tx, asked),
        overlaps=await _overlaps(tx, asked),
        taken=await taken(tx, number),
    )


_IN_SERVICE = (
    "FROM devices d JOIN certificates c ON c.serial = d.current_serial WHERE d.kind = 'agent'"
    " AND d.retired_at IS NULL AND d.revoked = 0 AND d.suspended = 0 AND d.alarm = 0 AND d.code_conflict = 0"
    " AND c.state IN ('active', 'expired-grace') AND c.serial >= '01'"
)


async def taken(tx: Transaction, number: int) -> tuple[tuple[str, int], ...]:
    """Return the other rollouts that are not over and have some of these devices, and how many."""
    rows = await tx.fetch_all(
        "SELECT x.name, COUNT(*) FROM rollouts x"
        " JOIN rollout_devices o ON o.rollout = x.number"
        " JOIN rollout_devices r ON r.domain = o.domain AND r.device_id = o.device_id AND r.rollout = ?"
        " WHERE x.state IN ('planned', 'running', 'paused', 'halted', 'rolling-back') AND x.number <> ?"
        " GROUP BY x.name ORDER BY x.name",
        (number, number),
    )
    return tuple((columns.text(name), columns.number(count)) for name, count in rows)


async def ending(tx: Transaction, asked: Ending) -> int:
    """Return how many devices have certificates that end too early."""
    return await _count(
        tx,
        f"FROM rollout_devices r{DEVICE}"
        " WHERE r.rollout = ? AND d.last_seen_at >= ? AND c.not_after >= ? AND c.not_after < ?",
        (asked.rollout, times.text(asked.seen_since), times.text(asked.now), times.text(asked.before)),
    )


async def _elsewhere(tx: Transaction, asked: Survey) -> int:
    if not asked.plan.domain:
        return 0
    source = "FROM rollout_devices WHERE rollout = ? AND domain <> ?"
    return await _count(tx, source, (asked.rollout, asked.plan.domain))


async def _overlaps(tx: Transaction, asked: Survey) -> tuple[tuple[int, int], ...]:
    """Return, for each wave that is a query, how many devices it finds that are in waves before it."""
    found = []
    for place, wave in enumerate(asked.plan.waves):
        if isinstance(wave.size, Matching):
            condition = await _where(tx, parse_query(wave.size.query).condition, asked.now)
            source = f"FROM rollout_devices r{DEVICE} WHERE r.rollout = ? AND r.wave BETWEEN 1 AND ?"
            values = (asked.rollout, place, *condition.values)
            if count := await _count(tx, f"{source} AND ({condition.text})", values):
                found.append((place, count))
    return tuple(found)


async def _where(tx: Transaction, condition: Condition, now: datetime) -> Sql:
    return where(await asked_groups(tx, condition), now=now)


async def _count(tx: Transaction, source: str, values: tuple[Value, ...]) -> int:
    row = await tx.fetch_one(f"SELECT COUNT(*) {source}", values)
    return 0 if row is None else columns.number(row[0])
