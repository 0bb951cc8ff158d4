"""Tells people what they have to know as long as the server runs: looks, gathers, makes, delivers.

All state stands in the store: a server that comes back goes on where the other one stopped.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from fleet.core.matters import Matter
from fleet.errors import FleetError
from fleet.ra.context import Context
from fleet.ra.telling.delivering import give_up_lost, keep_delivering
from fleet.ra.telling.facts import BY_DOCTOR, QUICK, Examine
from fleet.ra.telling.looking import forget, look, look_at_trail
from fleet.ra.telling.making import escalate, let_go, make_notifications
from fleet.store import deliveries

TURN_SECONDS = 10
ROUNDS: Mapping[timedelta, frozenset[Matter]] = MappingProxyType(
    {
        timedelta(minutes=5): frozenset(Matter) - QUICK - BY_DOCTOR,
        timedelta(minutes=30): BY_DOCTOR,
    }
)
"""How often what can wait is looked for: certificates end in days, and the doctor takes a while."""

_log = logging.getLogger(__name__)


async def keep_telling(context: Context, *, examine: Examine) -> None:
    """Tell people what they have to know, until cancelled."""
    await context.store.write(deliveries.take_up, context.clock())
    async with asyncio.TaskGroup() as group:
        for channel in context.carriers:
            group.create_task(keep_delivering(context, channel))
        group.create_task(_keep_looking(context, examine))


async def turn(context: Context) -> None:
    """Do what cannot wait: what happened, what is urgent, what was gathered, who did not answer."""
    await look_at_trail(context)
    await look(context, QUICK, examine=_no_doctor)
    await make_notifications(context)
    await escalate(context)


async def survey(context: Context, matters: Collection[Matter], *, examine: Examine) -> None:
    """Look for what can wait, and clean up."""
    await forget(context)
    await look(context, matters, examine=examine)
    await give_up_lost(context)
    await let_go(context)


async def _keep_looking(context: Context, examine: Examine) -> None:
    made: dict[timedelta, datetime] = {}
    while True:
        try:
            now = context.clock()
            for every, matters in ROUNDS.items():
                if every not in made or not made[every] <= now < made[every] + every:
                    await survey(context, matters, examine=examine)
                    made[every] = now
            await turn(context)
        except FleetError as error:
            _log.warning("people may be told late: %s", error)
        await asyncio.sleep(TURN_SECONDS)


async def _no_doctor(_context: Context) -> tuple[()]:
    return ()
