"""Conducts the rollouts that are under way: hears their devices, judges their gates, tells the next ones.

All that it knows stands in the store; after a stop it goes on where it stood. A rollout that cannot be
conducted now is logged, and holds up no other.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.core.maintenance import is_open
from fleet.core.rollout import SUPERVISED, RolloutState
from fleet.core.rollout_plan import Rollout
from fleet.errors import FleetError
from fleet.ra.campaigns.gates import Sitting, judge_rollout
from fleet.ra.campaigns.hearing import hear_devices
from fleet.ra.campaigns.plan_file import stored_plan
from fleet.ra.campaigns.planning import forget_drafts
from fleet.ra.campaigns.telling import Turn, tell_back, tell_next
from fleet.ra.context import Context
from fleet.ra.gap import gap_since
from fleet.ra.noticing import post_notices
from fleet.store import rollouts

TICK_SECONDS = 1.0
PAGE = 200
"""Devices that one commit changes: others who write wait no longer than for that."""
_MOST_AT_ONCE = timedelta(seconds=10)
"""A pace that was held up is not made up for in one go: at most what so much time allows."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pace:
    """How many devices of each rollout may be told by now; after a start from nothing, never too many."""

    since: dict[int, datetime] = field(default_factory=dict)
    reachable_since: datetime | None = None
    """Since when devices could reach us without a break; None while they cannot."""

    def look(self, now: datetime, *, answering: bool) -> None:
        """Note whether devices can reach us."""
        self.reachable_since = (self.reachable_since or now) if answering else None

    def allowance(self, rollout: Rollout, now: datetime) -> int:
        """Return how many may be told now."""
        since = self.since.setdefault(rollout.number, now)
        passed = min(now - since, _MOST_AT_ONCE)
        return int(passed.total_seconds() * rollout.plan.rate_per_minute / 60)

    def used(self, rollout: Rollout, count: int, now: datetime) -> None:
        """Note how many were told; of none, none were saved up."""
        since = max(self.since[rollout.number], now - _MOST_AT_ONCE)
        length = timedelta(minutes=count / rollout.plan.rate_per_minute)
        self.since[rollout.number] = min(since + length, now)

    def rests(self, rollout: Rollout, now: datetime) -> None:
        """Note that nobody may be told now: what was not used is lost."""
        self.since[rollout.number] = now


async def conduct(context: Context) -> None:
    """Conduct all rollouts, again and again, until cancelled."""
    pace, is_fresh = Pace(), True
    while True:
        try:
            if is_fresh:
                await forget_drafts(context)
                is_fresh = False
            await tick(context, pace)
        except FleetError as error:
            _log.warning("rollouts: %s", error)
        await asyncio.sleep(TICK_SECONDS)


async def tick(context: Context, pace: Pace) -> None:
    """Do what is due for each rollout now."""
    pace.look(context.clock(), answering=context.answering())
    for rollout in await context.store.read(rollouts.open_rollouts, stored_plan):
        if rollout.state not in SUPERVISED:
            continue
        try:
            await tend(context, rollout, pace)
        except FleetError as error:
            _log.warning("the rollout %s: %s", rollout.plan.name, error)


async def tend(context: Context, rollout: Rollout, pace: Pace) -> None:
    """Do what is due for a rollout now."""
    now = context.clock().replace(microsecond=0)
    if rollout.state is not RolloutState.ROLLING_BACK:
        await hear_devices(context, rollout, reachable_since=pace.reachable_since)
        rollout = await context.store.write(judge_rollout, Sitting(name=rollout.plan.name, at=now))
    if await _may_tell(context, rollout, now):
        await _tell(context, rollout, pace)
    else:
        pace.rests(rollout, context.clock())


async def _may_tell(context: Context, rollout: Rollout, now: datetime) -> bool:
    """Tell whether devices may be told: where they can hear it, where nobody is frozen, and in a window.

    A roll-back waits for no window.
    """
    if not context.answering():
        return False
    if await context.store.read(gap_since, None):
        return False
    if rollout.state is RolloutState.ROLLING_BACK:
        return True
    return rollout.state is RolloutState.RUNNING and is_open(rollout.plan.windows, now)


async def _tell(context: Context, rollout: Rollout, pace: Pace) -> None:
    """Tell as many devices as the pace allows, page by page, and have their notices posted."""
    work = tell_back if rollout.state is RolloutState.ROLLING_BACK else tell_next
    left = pace.allowance(rollout, context.clock())
    told = 0
    while left > 0:
        limit = min(left, PAGE)
        turn = Turn(name=rollout.plan.name, limit=limit, at=context.clock().replace(microsecond=0))
        done = await context.store.write(work, turn)
        told, left = told + done, left - done
        if done < limit:
            break
    pace.used(rollout, told, context.clock())
    if told:
        await post_notices(context, most=told)
