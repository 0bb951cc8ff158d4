"""Rollouts on record, and their waves with the counts that gates are judged by.

It decides nothing: what may follow on what is the table in `fleet.core.rollout`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fleet.core.rollout import DeviceState, RolloutState, Tally, WaveStanding
from fleet.core.rollout_plan import Plan, Rollout, RolloutWave
from fleet.ports import Row, Transaction
from fleet.store import columns, times
from fleet.store.counters import count_up

_COUNTER = "rollouts"
_DRAFTED = "drafted"
_ROLLOUT = (
    "number, plan, state, version, target, wave, planned_by, planned_at, started_at, changed_by, changed_at,"
    " reason"
)
_WAVE = (
    "wave, name, waiting, told, updated, failed, absent, out, undone, forgiven, settled_at, began_at,"
    " passed_at"
)
_OPEN = "('planned', 'running', 'paused', 'halted', 'rolling-back')"

ReadPlan = Callable[[str], Plan]
"""Reads a plan that was read before it was stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A rollout whose devices are still being written."""

    plan: Plan
    text: str
    """The plan as it was written."""
    target: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutQuery:
    """Which rollouts to list, the newest first; None and empty do not restrict."""

    read: ReadPlan
    state: RolloutState | None = None
    before: int = 2**62
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ByName:
    """A rollout by its name."""

    name: str
    read: ReadPlan


async def insert_draft(tx: Transaction, draft: Draft) -> int:
    """Take a number for a rollout, and add it with empty waves; nobody but its maker sees it."""
    number = await count_up(tx, _COUNTER)
    at = times.text(draft.at)
    await tx.execute(
        "INSERT INTO rollouts (number, name, kind, state, version, plan, target, planned_by, planned_at,"
        " changed_by, changed_at) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)",
        (
            number,
            f" {number}",  # no plan has such a name: several may be drafted at once
            draft.plan.kind.value,
            _DRAFTED,
            draft.text,
            draft.target,
            draft.actor,
            at,
            draft.actor,
            at,
        ),
    )
    await tx.execute_many(
        "INSERT INTO rollout_waves (rollout, wave, name) VALUES (?, ?, ?)",
        [(number, place, wave.name) for place, wave in enumerate(draft.plan.waves, start=1)],
    )
    return number


async def open_draft(tx: Transaction, number: int, name: str) -> None:
    """Make a draft a rollout of this name."""
    await tx.execute(
        "UPDATE rollouts SET name = ?, state = 'planned' WHERE number = ? AND state = ?",
        (name, number, _DRAFTED),
    )


async def drafts(tx: Transaction, _argument: None = None) -> tuple[int, ...]:
    """Return the numbers of drafts."""
    rows = await tx.fetch_all("SELECT number FROM rollouts WHERE state = ? ORDER BY number", (_DRAFTED,))
    return tuple(columns.number(row[0]) for row in rows)


async def drop_draft(tx: Transaction, number: int) -> None:
    """Forget a draft whose devices were forgotten; a rollout that was saved stays."""
    await tx.execute(
        "DELETE FROM rollout_waves WHERE rollout IN"
        " (SELECT number FROM rollouts WHERE number = ? AND state = ?)",
        (number, _DRAFTED),
    )
    await tx.execute("DELETE FROM rollouts WHERE number = ? AND state = ?", (number, _DRAFTED))


async def load_rollout(tx: Transaction, asked: ByName) -> Rollout | None:
    """Return a rollout by its name, or None."""
    row = await tx.fetch_one(f"SELECT {_ROLLOUT} FROM rollouts WHERE name = ?", (asked.name,))
    return None if row is None else _rollout(row, asked.read)


async def list_rollouts(tx: Transaction, query: RolloutQuery) -> tuple[Rollout, ...]:
    """Return a page of rollouts, the newest first."""
    state = "" if query.state is None else query.state.value
    rows = await tx.fetch_all(
        f"SELECT {_ROLLOUT} FROM rollouts WHERE state <> ? AND number < ? AND ? IN ('', state)"
        " ORDER BY number DESC LIMIT ?",
        (_DRAFTED, query.before, state, query.limit),
    )
    return tuple(_rollout(row, query.read) for row in rows)


async def open_rollouts(tx: Transaction, read: ReadPlan) -> tuple[Rollout, ...]:
    """Return the rollouts that are under way, or could be, the oldest first."""
    rows = await tx.fetch_all(f"SELECT {_ROLLOUT} FROM rollouts WHERE state IN {_OPEN} ORDER BY number")
    return tuple(_rollout(row, read) for row in rows)


async def save_standing(tx: Transaction, rollout: Rollout, *, seen: int) -> bool:
    """Write where a rollout stands; say no, and write nothing, if it was changed since version `seen`."""
    changed = await tx.execute(
        "UPDATE rollouts SET state = ?, version = ?, target = ?, wave = ?, started_at = ?, changed_by = ?,"
        " changed_at = ?, reason = ? WHERE number = ? AND version = ?",
        (
            rollout.state.value,
            rollout.version,
            rollout.target,
            rollout.wave,
            times.optional_text(rollout.started_at),
            rollout.changed_by,
            times.text(rollout.changed_at),
            rollout.reason,
            rollout.number,
            seen,
        ),
    )
    return changed == 1


async def set_state(tx: Transaction, name: str, state: RolloutState, *, reason: str) -> None:
    """Note where a rollout stood by the trail; a restore is told of it, and no operator orders it."""
    await tx.execute(
        "UPDATE rollouts SET state = ?, reason = ?, version = version + 1 WHERE name = ? AND state <> ?",
        (state.value, reason, name, _DRAFTED),
    )


async def halt_all(tx: Transaction, reason: str) -> int:
    """Halt what is under way; return how many rollouts these are."""
    return await tx.execute(
        "UPDATE rollouts SET state = 'halted', reason = ?, version = version + 1"
        " WHERE state IN ('running', 'paused', 'rolling-back')",
        (reason,),
    )


async def list_waves(tx: Transaction, rollout: int) -> tuple[RolloutWave, ...]:
    """Return the waves of a rollout, in their order."""
    rows = await tx.fetch_all(
        f"SELECT {_WAVE} FROM rollout_waves WHERE rollout = ? ORDER BY wave", (rollout,)
    )
    return tuple(_wave(row) for row in rows)


async def save_wave(tx: Transaction, rollout: int, wave: RolloutWave) -> None:
    """Write how a wave was judged; its counts are kept with its devices."""
    standing = wave.standing
    await tx.execute(
        "UPDATE rollout_waves SET forgiven = ?, settled_at = ?, began_at = ?, passed_at = ?"
        " WHERE rollout = ? AND wave = ?",
        (
            standing.forgiven,
            times.optional_text(standing.settled_at),
            times.optional_text(wave.began_at),
            times.optional_text(wave.passed_at),
            rollout,
            wave.number,
        ),
    )


async def move_counts(
    tx: Transaction, rollout: int, wave: int, moved: Mapping[tuple[DeviceState | None, DeviceState], int]
) -> None:
    """Count devices of a wave in other states; from None where they are new in it."""
    change = {
        state.value: sum(count for (_, after), count in moved.items() if after is state)
        - sum(count for (before, _), count in moved.items() if before is state)
        for state in DeviceState
    }
    sets = ", ".join(f"{name} = {name} + ?" for name in change)
    await tx.execute(
        f"UPDATE rollout_waves SET {sets} WHERE rollout = ? AND wave = ?", (*change.values(), rollout, wave)
    )


def _rollout(row: Row, read: ReadPlan) -> Rollout:
    return Rollout(
        number=columns.number(row[0]),
        plan=read(columns.text(row[1])),
        state=RolloutState(columns.text(row[2])),
        version=columns.number(row[3]),
        target=columns.text(row[4]),
        wave=columns.number(row[5]),
        planned_by=columns.text(row[6]),
        planned_at=times.moment(row[7]),
        started_at=times.optional_moment(row[8]),
        changed_by=columns.text(row[9]),
        changed_at=times.moment(row[10]),
        reason=columns.text(row[11]),
    )


def _wave(row: Row) -> RolloutWave:
    waiting, told, updated, failed, absent, out, undone = (columns.number(value) for value in row[2:9])
    tally = Tally(
        waiting=waiting, told=told, updated=updated, failed=failed, absent=absent, out=out, undone=undone
    )
    return RolloutWave(
        number=columns.number(row[0]),
        name=columns.text(row[1]),
        standing=WaveStanding(
            tally=tally, forgiven=columns.number(row[9]), settled_at=times.optional_moment(row[10])
        ),
        began_at=times.optional_moment(row[11]),
        passed_at=times.optional_moment(row[12]),
    )
