"""What operators order of a rollout: start, pause, resume, halt, roll back, abandon.

An order names the version that it was decided on, so that of two operators at once one is told of the other;
what is ordered twice is done once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from device_agent.wire.identity import Identity
from fleet.core.proposal import ActKind
from fleet.core.rollout import RolloutEvent, RolloutKind, RolloutState
from fleet.core.rollout_faults import faults_at_start
from fleet.core.rollout_plan import Rollout
from fleet.errors import RefusedError
from fleet.model import Role
from fleet.ports import Transaction
from fleet.ra.acts.deciding import Performer
from fleet.ra.acts.guard import MassAct, ProposedError, require_second
from fleet.ra.campaigns.gates import begin_wave
from fleet.ra.campaigns.planning import findings, refusal_of
from fleet.ra.campaigns.records import Step, find, note_refused, save, take
from fleet.ra.campaigns.targets import Target, find_target
from fleet.ra.context import Context
from fleet.store import rollout_devices, rollouts
from fleet.store.proposals import ProposalRecord
from fleet.store.rollout_devices import Page

ROLES: Mapping[RolloutKind, Role] = {
    RolloutKind.REKEY: Role.OPERATOR,
    RolloutKind.PROFILE: Role.SECURITY,
    RolloutKind.CA: Role.SECURITY,
    RolloutKind.TRUST: Role.SECURITY,
    RolloutKind.CONFIGURATION: Role.OPERATOR,
}
"""Who may plan, start and go on with a rollout, and so who may agree to it: as for one device of its kind."""
LEADS_ON = frozenset({RolloutEvent.START, RolloutEvent.RESUME, RolloutEvent.ROLL_BACK})
"""Orders that change devices; those that stop a rollout any operator may give."""
_PAGE = 1000
_NAME = "rollout"


class Insistence(Enum):
    """Whether an operator goes on although devices have failed."""

    WAIT = "wait"
    GO_ON = "go-on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order of an operator."""

    name: str
    event: RolloutEvent
    actor: str
    seen: int | None = None
    """The version that it was decided on."""
    reason: str = ""
    insistence: Insistence = Insistence.WAIT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    step: Step
    insistence: Insistence


async def give_order(context: Context, order: Order) -> Rollout:
    """Do what is ordered; return where the rollout stands then.

    Raises:
        NotFoundError: there is no such rollout.
        ProposedError: so many devices need a second operator, and the start was put on record as a proposal.
        RefusedError: it cannot be done now, or somebody else was faster.
    """
    try:
        if order.event is RolloutEvent.START:
            await _require_startable(context, order)
        return await _give(context, order)
    except ProposedError:
        raise
    except RefusedError as error:
        await note_refused(context, order.name, error, act=order.event.value, actor=order.actor)
        raise


async def _give(context: Context, order: Order) -> Rollout:
    at = context.clock().replace(microsecond=0)
    step = Step(
        name=order.name,
        event=order.event,
        actor=order.actor,
        at=at,
        reason=order.reason,
        seen=order.seen,
    )
    return await context.store.write(_order, _Given(step=step, insistence=order.insistence))


async def _order(tx: Transaction, given: _Given) -> Rollout:
    rollout, step = await find(tx, given.step.name), given.step
    if step.event is RolloutEvent.RESUME and rollout.state is RolloutState.HALTED:
        return await _resume_halted(tx, rollout, given)
    taken = await take(tx, rollout, step)
    if step.event is RolloutEvent.START and taken.version != rollout.version:
        return await _begin(tx, taken, step)
    return taken


async def _begin(tx: Transaction, rollout: Rollout, step: Step) -> Rollout:
    begun = replace(rollout, wave=1, started_at=step.at)
    await save(tx, begun, seen=rollout.version)
    waves = await rollouts.list_waves(tx, rollout.number)
    await begin_wave(tx, begun, waves[0], at=step.at)
    return begun


async def _resume_halted(tx: Transaction, rollout: Rollout, given: _Given) -> Rollout:
    """Go on in spite of the failures so far; later ones count anew."""
    waves = await rollouts.list_waves(tx, rollout.number)
    failed = sum(wave.standing.tally.failed for wave in waves)
    if failed and given.insistence is Insistence.WAIT:
        name = rollout.plan.name
        raise RefusedError(
            f"{'1 device has' if failed == 1 else f'{failed} devices have'} failed in the rollout {name}",
            hint=f"fleet rollout devices {name} --state failed; resume --anyway goes on in spite of them",
        )
    resumed = await take(tx, rollout, given.step, details=(("forgiven", str(failed)),))
    for wave in waves[: rollout.wave]:
        standing = replace(wave.standing, forgiven=wave.standing.tally.failed, settled_at=None)
        await rollouts.save_wave(tx, rollout.number, replace(wave, standing=standing))
    return resumed


async def _require_startable(context: Context, order: Order) -> None:
    """Look again at what may have changed since the plan was saved, and ask for a second operator."""
    rollout = await context.store.read(find, order.name)
    if rollout.state is not RolloutState.PLANNED:
        return
    target = await _target_now(context, rollout)
    found = await findings(context, rollout.number, rollout.plan, target)
    if speaking_against := faults_at_start(rollout.plan, found):
        raise refusal_of(rollout.plan.name, speaking_against, done="started")
    act = MassAct(
        kind=ActKind.ROLLOUT,
        identities=await _members(context, rollout),
        selection=f"rollout {order.name}",
        role=ROLES[rollout.plan.kind],
        parameters=((_NAME, order.name),),
        reason=order.reason,
    )
    await require_second(context, act, actor=order.actor)


async def _target_now(context: Context, rollout: Rollout) -> Target:
    """Return the target as it is now; one that stands for something else by now is none."""
    target = await find_target(context, rollout.plan)
    if target.fault or not rollout.plan.target or target.name == rollout.target:
        return target
    return replace(target, fault=f"{rollout.plan.target} is something else than when the plan was saved")


async def _members(context: Context, rollout: Rollout) -> tuple[Identity, ...]:
    found: list[Identity] = []
    page = Page(rollout=rollout.number, limit=_PAGE)
    while devices := await context.store.read(rollout_devices.list_members, page):
        found += [one.identity for one in devices]
        last = devices[-1].identity
        page = replace(page, after=(last.domain, last.device_id))
    return tuple(found)


async def _find(context: Context, proposal: ProposalRecord) -> tuple[Identity, ...]:
    rollout = await context.store.read(find, dict(proposal.parameters)[_NAME])
    return await _members(context, rollout)


async def _perform(context: Context, proposal: ProposalRecord, devices: tuple[Identity, ...]) -> str:
    """Start what somebody else agreed to. All of the plan's devices: its gates were planned for them."""
    name = dict(proposal.parameters)[_NAME]
    order = Order(name=name, event=RolloutEvent.START, actor=proposal.proposed_by, reason=proposal.reason)
    await _give(context, order)
    return f"started the rollout {name} over {len(devices)} devices"


PERFORMER = Performer(find=_find, perform=_perform)
