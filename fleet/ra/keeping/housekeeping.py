"""What time does: certificates end, graces run out, confirmations stay away, revocation lists grow old.

Each is an event for the core, judged on the state at its commit; being late or early here is safe.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

from fleet.core import events
from fleet.errors import FleetError
from fleet.ports import Work
from fleet.ra.acts.deciding import expire_proposals, finish_approved
from fleet.ra.context import Context
from fleet.ra.inventory.moving import finish_arrived
from fleet.ra.issuing import follow
from fleet.ra.judging import Case, Circumstances, judge
from fleet.ra.keeping.retention import let_go
from fleet.ra.keeping.witnessing import ask_witnesses
from fleet.ra.noticing import post_notices
from fleet.ra.own.own_renewal import look_after_own
from fleet.ra.people.readmission import expire_pleas
from fleet.ra.performers import PERFORMERS
from fleet.ra.requests.draining import Pulse, look_after_windows
from fleet.ra.requests.lapsing import lapse_unregistered
from fleet.ra.requests.queue import LIFETIME as WAITING_LIFETIME
from fleet.ra.status.publishing import refresh_lists
from fleet.store import allowlist, requests, waiting
from fleet.store.codes import GrantKind
from fleet.store.due import Due, DueQuery, past_end, past_grace, unconfirmed, unstamped
from fleet.store.windows import count_anew

TICK_SECONDS = 10
_A_DAY = timedelta(days=1)
_KEPT_CHANGES = 10_000

_log = logging.getLogger(__name__)


async def keep_house(context: Context) -> None:
    """Do all that is due, again and again, until cancelled."""
    works: Callable[[Context], Awaitable[None]] = begin
    pulse = Pulse()
    while True:
        try:
            await works(context)
            works = tick
            await look_after_own(context)
            await look_after_windows(context, pulse)
        except FleetError as error:
            _log.warning("housekeeping: %s", error)
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK_SECONDS):
                await context.tls_users.wanted.wait()
        context.tls_users.wanted.clear()


async def keep_evidence(context: Context) -> None:
    """Have the trail witnessed and archived, until cancelled: it may take long, and nothing waits for it."""
    let_go_next = context.clock()
    while True:
        await apart(ask_witnesses, context)
        if context.clock() >= let_go_next:
            let_go_next = context.clock() + _A_DAY
            await apart(let_go, context)
        await asyncio.sleep(TICK_SECONDS)


async def apart(job: Callable[[Context], Awaitable[object]], context: Context) -> None:
    """Do a job on which nobody's safety rests: whatever goes wrong in it holds nothing else up."""
    try:
        await job(context)
    except FleetError as error:
        _log.warning("housekeeping: %s", error)
    except Exception:  # noqa: BLE001 - a defect in one job must not end the service, nor every start after it
        _log.exception("housekeeping: %s failed, and is tried again", getattr(job, "__name__", job))


async def begin(context: Context) -> None:
    """Do what a stop may have left undone, and all that is due now."""
    await stamp_unused(context)
    await context.store.write(count_anew, context.clock())
    await tick(context)
    await apart(_finish_approved, context)


async def _finish_approved(context: Context) -> None:
    await finish_approved(context, PERFORMERS)


async def stamp_unused(context: Context) -> None:
    """Put what plain clients have not used yet in the broker's order, where a stop came in between."""
    now, told = context.clock(), set[str]()
    while fresh := [
        due for due in await context.store.read(unstamped, DueQuery(before=now)) if due.serial not in told
    ]:
        told |= {due.serial for due in fresh}
        # Read after the certificates were found: later than their issue, never earlier (PROTOCOL.md 5).
        stamp = await context.broker.stamp()
        for due in fresh:
            event = events.IssueStamped(serial=due.serial, stamp=stamp)
            await _judge_due(context, due, event)


async def tick(context: Context) -> None:
    """Do all that is due now."""
    now, policy = context.clock(), context.config.policy
    await _tell_due(context, past_end, now, lambda due: events.Expired(serial=due.serial))
    await _tell_due(context, past_grace, now - policy.grace, lambda due: events.GraceOver(serial=due.serial))
    await _tell_due(context, unconfirmed, now - policy.pending, _unconfirmed)
    for job in (lapse_unregistered, forget_requests, expire_proposals, finish_arrived, expire_pleas):
        await apart(job, context)
    if await context.store.read(waiting.has_older, now - WAITING_LIFETIME):
        await context.store.write(waiting.drop_older, now - WAITING_LIFETIME)
    try:
        await refresh_lists(context)
    finally:
        await catch_up(context)
    if context.answering():
        await post_notices(context)


async def forget_requests(context: Context) -> None:
    """Let the oldest requests go, of each outcome those beyond what is kept for dry runs."""
    if too_many := await context.store.read(requests.surplus, requests.KEPT):
        await context.store.write(requests.drop_requests, too_many)


async def catch_up(context: Context) -> None:
    """Bring the brokers to the newest commit: whoever made it may have given up waiting for them."""
    sequence = await context.store.read(allowlist.sequence, None)
    await context.broker.reach(sequence)
    if sequence > _KEPT_CHANGES:
        await context.store.write(allowlist.prune_changes, sequence - _KEPT_CHANGES)


def _unconfirmed(due: Due) -> events.Unconfirmed | None:
    # PROTOCOL.md 5: what a station installed may lie in a box for years.
    return None if due.grant == GrantKind.STATION else events.Unconfirmed(serial=due.serial)


async def _tell_due(
    context: Context,
    find: Work[DueQuery, tuple[Due, ...]],
    before: datetime,
    event_of: Callable[[Due], events.Event | None],
) -> None:
    """Judge what is due, page by page, as long as pages bring something new."""
    told: set[str] = set()
    while fresh := [
        due for due in await context.store.read(find, DueQuery(before=before)) if due.serial not in told
    ]:
        told |= {due.serial for due in fresh}
        for due in fresh:
            if (event := event_of(due)) is None:
                continue
            await _judge_due(context, due, event)


async def _judge_due(context: Context, due: Due, event: events.Event) -> None:
    circumstances = Circumstances(at=context.clock(), actor="server")
    case = Case(identity=due.identity, event=event, circumstances=circumstances)
    await follow(context, await context.store.write(judge, case))
