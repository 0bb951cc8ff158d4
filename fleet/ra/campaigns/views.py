"""Rollouts as operators see them: where each stands, what its gate waits for, and when it would be over."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.core.maintenance import is_open
from fleet.core.rollout import Judgement, RolloutState, Tally, judge
from fleet.core.rollout_plan import Course, Rollout, RolloutWave, course_of
from fleet.ports import Transaction
from fleet.ra.campaigns.changes import ROLL_BACK
from fleet.ra.campaigns.plan_file import stored_plan
from fleet.ra.campaigns.records import find
from fleet.ra.context import Context
from fleet.store import rollout_devices, rollouts
from fleet.store.rollout_devices import Page, RolloutDevice
from fleet.store.rollouts import RolloutQuery

_GOING_ON = frozenset({RolloutState.PLANNED, RolloutState.RUNNING, RolloutState.PAUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A rollout, and what is to be said of it now."""

    rollout: Rollout
    waves: tuple[RolloutWave, ...]
    total: Tally
    judgement: Judgement | None = None
    """What the gate of the wave that is under way says; None where none is judged."""
    course: Course | None = None
    """None where it does not go on by itself, or not within a year."""
    window_is_open: bool = True
    roll_back: str = ""
    """What a roll-back would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    rollout: Rollout
    waves: tuple[RolloutWave, ...]


async def show(context: Context, name: str) -> View:
    """Return a rollout with its waves; raises `NotFoundError`."""
    found = await context.store.read(_find, name)
    return _view(context, found.rollout, found.waves)


async def open_views(context: Context) -> tuple[View, ...]:
    """Return the rollouts that are not over, the oldest first."""
    return tuple(
        _view(context, found.rollout, found.waves) for found in await context.store.read(_find_open, None)
    )


async def list_rollouts(
    context: Context, *, state: RolloutState | None, before: int, limit: int
) -> tuple[Rollout, ...]:
    """Return a page of rollouts, the newest first, with numbers below `before`."""
    query = RolloutQuery(read=stored_plan, state=state, before=before, limit=limit)
    return await context.store.read(rollouts.list_rollouts, query)


async def list_devices(context: Context, name: str, page: Page) -> tuple[RolloutDevice, ...]:
    """Return a page of the devices of a rollout, by domain and id; raises `NotFoundError`."""
    found = await context.store.read(_find, name)
    asked = Page(
        rollout=found.rollout.number, wave=page.wave, state=page.state, after=page.after, limit=page.limit
    )
    return await context.store.read(rollout_devices.list_members, asked)


def total_of(waves: Sequence[RolloutWave]) -> Tally:
    """Return the waves' counts together."""
    total = Tally()
    for wave in waves:
        total = total.plus(wave.standing.tally)
    return total


async def _find(tx: Transaction, name: str) -> _Found:
    rollout = await find(tx, name)
    return _Found(rollout=rollout, waves=await rollouts.list_waves(tx, rollout.number))


async def _find_open(tx: Transaction, _argument: None) -> tuple[_Found, ...]:
    return tuple(
        [
            _Found(rollout=one, waves=await rollouts.list_waves(tx, one.number))
            for one in await rollouts.open_rollouts(tx, stored_plan)
        ]
    )


def _view(context: Context, rollout: Rollout, waves: tuple[RolloutWave, ...]) -> View:
    now = context.clock().replace(microsecond=0)
    judgement = None
    if rollout.state in {RolloutState.RUNNING, RolloutState.PAUSED}:
        judgement = judge(rollout.plan.gate, waves[rollout.wave - 1].standing, now=now)
    course = None
    if rollout.state in _GOING_ON:
        left = [wave.standing.tally for wave in waves if wave.passed_at is None]
        course = course_of(rollout.plan, left, since=now)
    return View(
        rollout=rollout,
        waves=waves,
        total=total_of(waves),
        judgement=judgement,
        course=course,
        window_is_open=is_open(rollout.plan.windows, now),
        roll_back=ROLL_BACK[rollout.plan.kind],
    )
