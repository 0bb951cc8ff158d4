"""Finds what a plan's target stands for in this fleet: a profile, a CA, a trust bundle, settings."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fleet.core.rollout import RolloutKind
from fleet.core.rollout_plan import Plan
from fleet.core.rollover import RolloverKind, RolloverState
from fleet.model import Purpose
from fleet.ra.authority.authority_views import list_views
from fleet.ra.context import Context
from fleet.store.counters import count_up
from fleet.store.rollovers import newest_rollover

_COUNTER = "configurations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was found: how a rollout remembers it, or why it is none."""

    name: str = ""
    fault: str = ""
    room: int | None = None
    """How many certificates a CA still has room for; None: no limit."""


async def find_target(context: Context, plan: Plan) -> Target:
    """Return what the target of a plan is here."""
    return await _FINDERS[plan.kind](context, plan)


async def take_number(context: Context) -> int:
    """Return a number for settings that no settings had before."""
    return await context.store.write(count_up, _COUNTER)


async def _none(_context: Context, _plan: Plan) -> Target:
    return Target()


async def _profile(context: Context, plan: Plan) -> Target:
    domain, _, name = plan.target.partition("/")
    found = context.config.domain(domain)
    if found is None:
        return Target(fault=f"there is no domain {domain}")
    names = [profile.name for profile in found.profiles]
    if name not in names:
        return Target(fault=f"{domain} has no profile {name}: it has {', '.join(names)}")
    return Target(name=name)


async def _ca(context: Context, plan: Plan) -> Target:
    for view in await list_views(context):
        if view.record.folder != plan.target:
            continue
        issuers = {one.issuer_id for one in context.authority.active(Purpose.DEVICE, plan.domain)}
        if view.record.issuer not in issuers:
            return Target(fault=f"the CA {plan.target} is {view.record.state}, and signs for no device now")
        limit = view.record.room
        return Target(name=view.record.issuer, room=None if limit is None else max(limit - view.leaves, 0))
    return Target(fault=f"there is no issuing CA {plan.target}")


async def _trust(context: Context, plan: Plan) -> Target:
    rollover = await context.store.read(newest_rollover, plan.target)
    if rollover is None or rollover.kind is not RolloverKind.ROOT or rollover.version is None:
        return Target(fault=f"no rollover has prepared a trust bundle for {plan.target}")
    if rollover.state is not RolloverState.PREPARED:
        return Target(fault=f"the rollover of {plan.target} is {rollover.state}: its bundle is no news")
    return Target(name=str(rollover.version))


async def _configuration(context: Context, _plan: Plan) -> Target:
    return Target(name=str(await take_number(context)))


_FINDERS: Mapping[RolloutKind, Callable[[Context, Plan], Awaitable[Target]]] = {
    RolloutKind.REKEY: _none,
    RolloutKind.PROFILE: _profile,
    RolloutKind.CA: _ca,
    RolloutKind.TRUST: _trust,
    RolloutKind.CONFIGURATION: _configuration,
}
