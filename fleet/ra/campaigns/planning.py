"""Saves the plan of a rollout, or says all that speaks against it.

Its devices are written page by page beforehand, under a number that nobody sees; what is refused, or cut off,
leaves nothing behind. What was shown is what is rolled: devices that come later are in no rollout of before.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from fleet.core.query_text import parse_query
from fleet.core.rollout_faults import ABSENT_AFTER, Fault, Findings, faults, taken_faults, waves_of
from fleet.core.rollout_plan import (
    Course,
    Matching,
    Plan,
    Rollout,
    course_of,
    is_drawn,
    place_of,
    wave_sizes,
)
from fleet.core.serial import is_adopted
from fleet.errors import RefusedError
from fleet.model import AuditEntry, CertificateState, ClientKind, Standing
from fleet.ports import Transaction
from fleet.ra.campaigns.plan_file import read_plan, stored_plan
from fleet.ra.campaigns.records import note_refused
from fleet.ra.campaigns.targets import Target, find_target
from fleet.ra.context import Context
from fleet.store import audit, rollout_devices, rollout_survey, rollouts
from fleet.store.inventory import DeviceQuery, DeviceSummary, list_devices
from fleet.store.rollout_devices import Assignment, Members, Page
from fleet.store.rollout_survey import Ending, Survey
from fleet.store.rollouts import ByName, Draft

_PAGE = 500
_RENEWABLE = frozenset({CertificateState.ACTIVE, CertificateState.EXPIRED_GRACE})
_IN_SERVICE = frozenset({Standing.ACTIVE, Standing.EXPIRED})


class Saving(Enum):
    """Whether a plan is kept that may be."""

    SAVE = "save"
    REHEARSE = "rehearse"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOrder:
    """What an operator hands in."""

    text: str
    actor: str
    saving: Saving = Saving.SAVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a plan would do, and when."""

    plan: Plan
    devices: int
    waves: tuple[int, ...]
    left_out: tuple[tuple[str, int], ...]
    course: Course
    rollout: Rollout | None = None
    """None where it was only rehearsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    number: int
    plan: Plan
    devices: int
    actor: str
    at: datetime


async def plan_rollout(context: Context, order: PlanOrder) -> Planned:
    """Read, check and save a plan.

    Raises:
        BadInputError: it cannot be read.
        RefusedError: something speaks against it; all of it is told.
    """
    plan = read_plan(order.text)
    try:
        await _require_free(context, plan.name)
        return await _checked(context, order, plan)
    except RefusedError as error:
        if order.saving is Saving.SAVE:
            await note_refused(context, plan.name, error, act="plan", actor=order.actor)
        raise


async def _checked(context: Context, order: PlanOrder, plan: Plan) -> Planned:
    """Write a draft, look at it, and make it a rollout or forget it."""
    now = context.clock().replace(microsecond=0)
    target = await find_target(context, plan)
    draft = Draft(plan=plan, text=order.text, target=target.name, actor=order.actor, at=now)
    number = await context.store.write(rollouts.insert_draft, draft)
    try:
        left_out = await _write_members(context, number, plan, now)
        await _assign_waves(context, number, plan, now)
        found = await findings(context, number, plan, target)
        planned = _planned(plan, replace(found, left_out=tuple(sorted(left_out.items()))))
        if order.saving is Saving.REHEARSE:
            return planned
        opening = _Opening(number=number, plan=plan, devices=found.selected, actor=order.actor, at=now)
        return replace(planned, rollout=await context.store.write(_open, opening))
    finally:
        await forget_draft(context, number)  # what was saved is none any more


async def forget_drafts(context: Context) -> None:
    """Forget what a stop has left of plans that were being saved."""
    for number in await context.store.read(rollouts.drafts, None):
        await forget_draft(context, number)


async def forget_draft(context: Context, number: int) -> None:
    """Forget a draft, page by page."""
    while await context.store.write(rollout_devices.drop_members, Page(rollout=number, limit=_PAGE)):
        pass
    await context.store.write(rollouts.drop_draft, number)


async def _require_free(context: Context, name: str) -> None:
    if await context.store.read(rollouts.load_rollout, ByName(name=name, read=stored_plan)) is not None:
        raise _taken(name)


def _taken(name: str) -> RefusedError:
    return RefusedError(
        f"there is a rollout {name} already", hint=f"another name; fleet rollout status {name}"
    )


async def _write_members(context: Context, number: int, plan: Plan, now: datetime) -> Counter[str]:
    """Write who takes part; return how many cannot, and why."""
    left_out = Counter[str]()
    condition = parse_query(plan.select).condition
    query = DeviceQuery(condition=condition, now=now, limit=_PAGE)
    while summaries := await context.store.search(list_devices, query):
        fitting = []
        for one in summaries:
            if not is_drawn(place_of(one.identity, plan.salt), plan.percentage):
                continue
            if why := _left_out(one):
                left_out[why] += 1
            else:
                fitting.append(one.identity)
        members = Members(rollout=number, salt=plan.salt, identities=tuple(fitting), at=now)
        await context.store.write(rollout_devices.add_members, members)
        last = summaries[-1].identity
        query = replace(query, after=(last.domain, last.device_id))
    return left_out


def _left_out(device: DeviceSummary) -> str:
    """Return why a device cannot take part; empty where it can."""
    if device.standing not in _IN_SERVICE:
        return device.standing.value
    if device.kind is not ClientKind.AGENT:
        return "of a kind that takes no notices"
    if device.serial is None or is_adopted(device.serial) or device.state not in _RENEWABLE:
        return "without a certificate of ours that can be renewed"
    return ""


async def _assign_waves(context: Context, number: int, plan: Plan, now: datetime) -> None:
    """Put devices into waves: those first that are queries, then the others share what is left."""
    for place, wave in enumerate(plan.waves, start=1):
        if isinstance(wave.size, Matching):
            condition = parse_query(wave.size.query).condition
            wanted = Assignment(rollout=number, wave=place, limit=_PAGE, condition=condition, now=now)
            while await context.store.write(rollout_devices.assign, wanted) == _PAGE:
                pass
    found = await context.store.read(rollout_survey.survey, Survey(rollout=number, plan=plan, now=now))
    sized = [place for place, wave in enumerate(plan.waves, 1) if not isinstance(wave.size, Matching)]
    sizes = wave_sizes(plan.waves, whole=found.selected, left=found.unassigned)
    for place, size in zip(sized, sizes, strict=True):
        for count in _pages(size):
            await context.store.write(
                rollout_devices.assign, Assignment(rollout=number, wave=place, limit=count)
            )


def _pages(size: int) -> Iterator[int]:
    for done in range(0, size, _PAGE):
        yield min(_PAGE, size - done)


async def findings(context: Context, number: int, plan: Plan, target: Target) -> Findings:
    """Return what the plan of a rollout would do now; its faults are judged by nothing else."""
    now = context.clock().replace(microsecond=0)
    counted = await context.store.read(rollout_survey.survey, Survey(rollout=number, plan=plan, now=now))
    waves = await context.store.read(rollouts.list_waves, number)
    found = Findings(
        now=now,
        selected=counted.selected,
        says_all=parse_query(plan.select).says_all,
        in_service=counted.in_service,
        waves=tuple(wave.standing.tally.size for wave in waves),
        overlaps=counted.overlaps,
        unassigned=counted.unassigned,
        taken=counted.taken,
        elsewhere=counted.elsewhere,
        room=target.room,
        target_fault=target.fault,
        most_per_minute=context.config.rollouts.most_per_minute,
    )
    if (course := course_of(plan, waves_of(found), since=now)) is None:
        return found
    asked = Ending(rollout=number, seen_since=now - ABSENT_AFTER, now=now, before=course.latest)
    return replace(found, ending=await context.store.read(rollout_survey.ending, asked))


def _planned(plan: Plan, found: Findings) -> Planned:
    speaking_against = faults(plan, found)
    course = course_of(plan, waves_of(found), since=found.now)
    if speaking_against or course is None:
        raise refusal_of(plan.name, speaking_against)
    return Planned(
        plan=plan, devices=found.selected, waves=found.waves, left_out=found.left_out, course=course
    )


def refusal_of(name: str, speaking_against: Sequence[Fault], *, done: str = "saved") -> RefusedError:
    """Return the error that tells all faults of a plan and what would mend each, by the same number."""
    numbered = [
        (f"({number}) " if len(speaking_against) > 1 else "", fault)
        for number, fault in enumerate(speaking_against, start=1)
    ]
    whats = "; ".join(f"{number}{fault.what}" for number, fault in numbered)
    mends = "; ".join(f"{number}{fault.mend}" for number, fault in numbered if fault.mend)
    return RefusedError(f"the plan {name} is not {done}: {whats}", hint=mends or "fleet rollout plan --help")


async def _open(tx: Transaction, opening: _Opening) -> Rollout:
    """Make a draft a rollout, unless somebody else was faster with its name or its devices."""
    name = opening.plan.name
    if await rollouts.load_rollout(tx, ByName(name=name, read=stored_plan)) is not None:
        raise _taken(name)
    if others := await rollout_survey.taken(tx, opening.number):
        raise refusal_of(name, tuple(taken_faults(others)))
    await rollouts.open_draft(tx, opening.number, name)
    plan = opening.plan
    details = (
        ("rollout", name),
        ("kind", plan.kind.value),
        ("target", plan.target),
        ("select", plan.select),
        ("percentage", f"{plan.percentage:g}"),
        ("devices", str(opening.devices)),
        ("waves", ", ".join(str(wave.size) for wave in plan.waves)),
        ("note", plan.note),
    )
    entry = AuditEntry(
        at=opening.at,
        action="rollout.planned",
        actor=opening.actor,
        details=tuple((key, value) for key, value in details if value),
    )
    await audit.append(tx, entry)
    found = await rollouts.load_rollout(tx, ByName(name=name, read=stored_plan))
    assert found is not None  # noqa: S101 - it was written a moment ago
    return found
