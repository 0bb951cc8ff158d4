"""Hears what became of the devices that a rollout has told, page by page, and counts it with their waves."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from device_agent.wire.trust import FLEET_REALM
from fleet.core.rollout import RolloutKind, device_after
from fleet.core.rollout_device import Aim, DeviceFacts, Heard, hear, out_of_patience
from fleet.core.rollout_plan import Rollout
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store import rollout_devices
from fleet.store.rollout_devices import Moved, Overdue, Page, RolloutDevice

PAGE = 500
_MOST_PAGES = 8
"""A look, so that other rollouts and orders have their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    rollout: Rollout
    at: datetime
    online: frozenset[str] = frozenset()
    """Names that brokers have sessions of."""


async def hear_devices(context: Context, rollout: Rollout, *, reachable_since: datetime | None) -> None:
    """Judge each device of which something became known, and each whose time to answer is over.

    Nobody's time runs while brokers or this server are away: after that, all have it whole once more.
    """
    now = context.clock()
    await _page_by_page(context, _hear_stirred, _Look(rollout=rollout, at=now))
    if reachable_since is None or now - reachable_since < rollout.plan.gate.patience:
        return
    asked = _overdue(rollout, now)
    if await context.store.read(rollout_devices.overdue, replace(asked, limit=1)):
        # Asked for only where somebody's time is over: the list is as long as the fleet.
        online = frozenset(session.name for session in await context.broker.sessions())
        look = _Look(rollout=rollout, at=now, online=online)
        await _page_by_page(context, _hear_overdue, look)


async def _page_by_page(
    context: Context, work: Callable[[Transaction, _Look], Awaitable[int]], look: _Look
) -> None:
    for _ in range(_MOST_PAGES):
        if await context.store.write(work, look) < PAGE:
            return


async def _hear_stirred(tx: Transaction, look: _Look) -> int:
    number = look.rollout.number
    found = await rollout_devices.stirred(tx, Page(rollout=number, limit=PAGE))
    aim = aim_of(look.rollout)
    heard = [(one, hear(aim, facts_of(look.rollout, one))) for one in found]
    await _keep(tx, look, [(one, news) for one, news in heard if news is not None])
    await rollout_devices.calm(tx, number, [one.identity for one, news in heard if news is None])
    return len(found)


async def _hear_overdue(tx: Transaction, look: _Look) -> int:
    found = await rollout_devices.overdue(tx, replace(_overdue(look.rollout, look.at), limit=PAGE))
    aim = aim_of(look.rollout)
    heard = []
    for one in found:
        facts = replace(facts_of(look.rollout, one), is_online=one.identity.name in look.online)
        heard.append((one, out_of_patience(aim, facts)))
    await _keep(tx, look, heard)
    return len(found)


async def _keep(tx: Transaction, look: _Look, heard: Sequence[tuple[RolloutDevice, Heard]]) -> None:
    moves = [
        Moved(
            identity=one.identity,
            wave=one.wave,
            before=one.facts.state,
            after=device_after(one.facts.state, news.event),
            reason=news.reason,
        )
        for one, news in heard
    ]
    if moves:
        await rollout_devices.save_moves(tx, look.rollout.number, moves, at=look.at)


def aim_of(rollout: Rollout) -> Aim:
    """Return what the devices of a rollout are to come back with."""
    return Aim(kind=rollout.plan.kind, target=rollout.target)


def facts_of(rollout: Rollout, device: RolloutDevice) -> DeviceFacts:
    """Return what is known of a device, as far as this rollout asks."""
    if rollout.plan.kind is not RolloutKind.TRUST:
        return device.facts
    held = device.server_version if rollout.plan.target == FLEET_REALM else device.own_version
    return replace(device.facts, held=held)


def _overdue(rollout: Rollout, now: datetime) -> Overdue:
    return Overdue(rollout=rollout.number, before=now - rollout.plan.gate.patience)
