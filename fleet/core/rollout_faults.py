"""Why a plan is not saved: everything that would make it stop, harm, or mean something else than was meant.

All faults are told at once, so that nobody mends them one by one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from fleet.core.rollout import Tally
from fleet.core.rollout_plan import Count, Percent, Plan, course_of

ABSENT_AFTER = timedelta(days=30)
"""Who was not seen for so long lies in a box: that its certificate ends is no fault of a plan."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a plan would do to the fleet as it is."""

    now: datetime
    selected: int = 0
    says_all: bool = False
    in_service: int = 0
    """Devices of the fleet that a rollout could reach."""
    left_out: tuple[tuple[str, int], ...] = ()
    """Devices that were selected, and cannot take part: why, and how many."""
    waves: tuple[int, ...] = ()
    """How many devices each wave has."""
    overlaps: tuple[tuple[int, int], ...] = ()
    """Waves that find devices of earlier ones: which wave, from 0, and how many."""
    unassigned: int = 0
    """Devices that are in no wave."""
    taken: tuple[tuple[str, int], ...] = ()
    """Other rollouts that are under way, and how many of these devices each has."""
    elsewhere: int = 0
    """Devices of other domains than the target's."""
    ending: int = 0
    """Devices that were seen lately, and whose certificates end before the rollout may."""
    room: int | None = None
    """How many certificates the CA still has room for; None: no limit."""
    target_fault: str = ""
    """Why the target is none; empty where it is one."""
    most_per_minute: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a plan, and what would mend it."""

    what: str
    mend: str = field(default="")


Check: TypeAlias = Callable[[Plan, Findings], Iterator[Fault]]


def faults(plan: Plan, found: Findings) -> tuple[Fault, ...]:
    """Return everything that speaks against a plan; nothing where it may be saved."""
    return tuple(fault for check in _CHECKS for fault in check(plan, found))


def waves_of(found: Findings) -> tuple[Tally, ...]:
    """Return the waves as they stand before anybody was told."""
    return tuple(Tally(waiting=count) for count in found.waves)


def _selection(plan: Plan, found: Findings) -> Iterator[Fault]:
    if not found.selected:
        why = ", ".join(f"{count} {reason}" for reason, count in found.left_out)
        yield Fault(
            what=f"it selects no device that could take part{f': {why}' if why else ''}",
            mend="fleet device list shows what a query finds",
        )
    elif found.selected == found.in_service and plan.percentage == 100 and not found.says_all:
        what = f"it selects every device in service ({found.selected}) without saying so"
        yield Fault(what=what, mend="if you mean that, select = 'all', or add 'and all' to the query")
    if found.elsewhere:
        domain = plan.domain
        yield Fault(
            what=f"{_are(found.elsewhere)} not of the domain {domain}, whose target it names",
            mend=f"add 'and domain={domain}' to the query",
        )


def _waves(plan: Plan, found: Findings) -> Iterator[Fault]:
    if not found.selected:
        return
    for place, count in found.overlaps:
        what = f"the {plan.waves[place].name} overlaps waves before it: {_are(count)} in both"
        yield Fault(what=what, mend="a device is in one wave: narrow its query, or leave it to 'rest'")
    for wave, count in zip(plan.waves, found.waves, strict=True):
        if not count:
            yield Fault(what=f"the {wave.name} ({wave.size}) is empty", mend="leave it out")
        elif isinstance(wave.size, Count) and count < wave.size.devices:
            what = f"the {wave.name} wants {wave.size.devices} devices, and {count} are left for it"
            yield Fault(what=what, mend="make the waves smaller, or end them with 'rest'")
    if (share := sum(one.size.percent for one in plan.waves if isinstance(one.size, Percent))) > 100:
        yield Fault(what=f"its waves are {share:g} % of the devices together", mend="100 % at most")
    if found.unassigned:
        what = f"{_are(found.unassigned)} in no wave"
        yield Fault(what=what, mend="end the waves with 'rest'")


def taken_faults(taken: Sequence[tuple[str, int]]) -> Iterator[Fault]:
    """Yield a fault for each other rollout that has devices of a plan."""
    for name, count in taken:
        what = f"{_are(count)} in the rollout {name}, which is not over"
        yield Fault(what=what, mend=f"fleet rollout status {name}; fleet rollout abandon {name} frees them")


def _others(_plan: Plan, found: Findings) -> Iterator[Fault]:
    yield from taken_faults(found.taken)


def _target(_plan: Plan, found: Findings) -> Iterator[Fault]:
    if found.target_fault:
        yield Fault(what=found.target_fault)
    if found.room is not None and found.selected > found.room:
        what = f"the CA has room for {found.room} more certificates, and {found.selected} would be made"
        yield Fault(what=what, mend="fleet ca list; select fewer devices, or add a CA")


def _pace(plan: Plan, found: Findings) -> Iterator[Fault]:
    if plan.rate_per_minute > found.most_per_minute:
        what = (
            f"{plan.rate_per_minute} devices a minute are more than the {found.most_per_minute} there may be"
        )
        yield Fault(what=what, mend="lower rate_per_minute; the limit stands in fleet.toml, [rollouts]")


def _time(plan: Plan, found: Findings) -> Iterator[Fault]:
    course = course_of(plan, waves_of(found), since=found.now)
    if course is None:
        what = f"its windows are too short for {found.selected} devices at {plan.rate_per_minute} a minute"
        yield Fault(what=what, mend="longer windows, or a higher rate_per_minute")
    elif plan.ends is not None and course.latest > plan.ends:
        what = (
            f"it may last until {course.latest:%Y-%m-%dT%H:%MZ}, and is to end by {plan.ends:%Y-%m-%dT%H:%MZ}"
        )
        mend = "longer windows, a higher rate_per_minute, or less patience and soak"
        yield Fault(what=what, mend=mend)
    elif found.ending:
        what = f"certificates of {found.ending} of its devices end before {course.latest:%Y-%m-%d}, as it may"
        yield Fault(what=what, mend="go faster, or take those with 'expires<...' first")


def _gate(plan: Plan, found: Findings) -> Iterator[Fault]:
    gate = plan.gate
    if gate.updated + gate.failed > 1 + _ROUNDING:
        yield Fault(
            what=f"its gate lets {gate.failed:.2%} fail, and wants {gate.updated:.2%} updated: never both",
            mend="updated and failed are 1 together at most",
        )
    for wave, count in zip(plan.waves, found.waves, strict=True):
        if 0 < count < gate.least:
            what = f"its gate wants {gate.least} devices updated, and the {wave.name} has {count}"
            yield Fault(what=what, mend="lower least, or make the wave larger")


def _are(count: int) -> str:
    return "1 of its devices is" if count == 1 else f"{count} of its devices are"


_CHECKS: tuple[Check, ...] = (_selection, _waves, _others, _target, _pace, _time, _gate)
_AT_START: tuple[Check, ...] = (_target, _pace, _time)


def faults_at_start(plan: Plan, found: Findings) -> tuple[Fault, ...]:
    """Return what has come up since a plan was saved: time passes, CAs stop, configurations change."""
    return tuple(fault for check in _AT_START for fault in check(plan, found))
