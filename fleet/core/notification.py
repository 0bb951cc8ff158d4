"""What is told of a thing, and what is not: it arises, gets worse, and is over; each is told once. Pure.

A rule remembers of each subject how far it was told. What is seen is compared with that and nothing else, so
that looking twice, or again after a crash, tells nothing twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from device_agent.wire.identity import Identity
from fleet.core.matters import MATTERS, Course, Matter, Severity
from fleet.core.notification_rule import Rule

CALM = timedelta(days=1)
"""What happened and did not happen again for so long may be told anew."""
LONGEST_TEXT = 300


class Phase(StrEnum):
    """How a rule stands to a subject."""

    CLEAR = "clear"
    RAISED = "raised"


class Sight(StrEnum):
    """What a look at a subject shows."""

    RISES = "rises"
    """It is there, and further gone than was told."""
    HOLDS = "holds"
    """It is there, and no worse than was told."""
    GONE = "gone"
    LAPSED = "lapsed"
    """It happened once, long ago: nothing says that it is mended."""


class Change(StrEnum):
    """What people are told; stored by name."""

    ARISES = "arises"
    WORSENS = "worsens"
    CLEARS = "clears"


TRANSITIONS: Mapping[tuple[Phase, Sight], tuple[Phase, Change | None]] = MappingProxyType(
    {
        (Phase.CLEAR, Sight.RISES): (Phase.RAISED, Change.ARISES),
        (Phase.CLEAR, Sight.HOLDS): (Phase.CLEAR, None),
        (Phase.CLEAR, Sight.GONE): (Phase.CLEAR, None),
        (Phase.CLEAR, Sight.LAPSED): (Phase.CLEAR, None),
        (Phase.RAISED, Sight.RISES): (Phase.RAISED, Change.WORSENS),
        (Phase.RAISED, Sight.HOLDS): (Phase.RAISED, None),
        (Phase.RAISED, Sight.GONE): (Phase.CLEAR, Change.CLEARS),
        (Phase.RAISED, Sight.LAPSED): (Phase.CLEAR, None),
    }
)
"""Where a subject goes, and what is told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that is so, or that happened: one subject of a matter."""

    matter: Matter
    subject: str
    text: str
    """One line for people, without the subject."""
    at: datetime
    ends: datetime | None = None
    """When it comes to its end: then the rule's thresholds say how far it is gone, and else `count`."""
    count: int = 1
    severity: Severity | None = None
    """In place of what its matter has."""
    domain: str = ""
    device: Identity | None = None
    """Whose owner is told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """How far a rule has told of a subject."""

    subject: str
    level: int
    """The highest since it arose; what gets better is not told before it is over."""
    seen_at: datetime
    device: Identity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a look at one subject comes to. `known` None: it is over."""

    subject: str
    known: Known | None
    change: Change | None
    severity: Severity
    text: str
    device: Identity | None = None


def steps(rule: Rule, known: Mapping[str, Known], facts: Iterable[Fact], *, now: datetime) -> list[Step]:
    """Return what one look at all subjects of one matter comes to; what stays as it is, is left out.

    `known` is what the rule remembers of this matter. A matter that comes and goes has to be looked at as a
    whole: what is remembered and not among the facts is over.
    """
    seen: set[str] = set()
    found: list[Step] = []
    for fact in facts:
        level = rule.level(count=fact.count, ends=fact.ends, now=now)
        if level > 0 and rule.covers(fact.matter, fact.domain) and fact.subject not in seen:
            seen.add(fact.subject)
            found += _seen(rule, known.get(fact.subject), fact, level)
    return found + [_ended(each) for each in known.values() if each.subject not in seen]


def happenings(rule: Rule, known: Mapping[str, Known], facts: Iterable[Fact], *, now: datetime) -> list[Step]:
    """Return as `steps`, for a matter that happens: what did not happen again for a while lapses."""
    fresh = {name: each for name, each in known.items() if each.seen_at + CALM > now}
    found: dict[str, Step] = {}
    for fact in facts:
        if rule.covers(fact.matter, fact.domain) and fact.subject not in found:
            level = rule.level(count=fact.count, ends=fact.ends, now=now)
            found |= {step.subject: step for step in _seen(rule, fresh.get(fact.subject), fact, level)}
    stale = [each for name, each in known.items() if name not in fresh and name not in found]
    return [*found.values(), *(_lapsed(each) for each in stale)]


def sight(known: Known | None, level: int) -> Sight:
    """Return what a look shows that finds a subject at a level."""
    if level <= 0:
        return Sight.GONE
    return Sight.RISES if known is None or level > known.level else Sight.HOLDS


def line(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return text as one line of printable signs: names and reasons come from outside."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _seen(rule: Rule, known: Known | None, fact: Fact, level: int) -> Iterable[Step]:
    shown = sight(known, level)
    phase, change = TRANSITIONS[Phase.CLEAR if known is None else Phase.RAISED, shown]
    is_passing = MATTERS[fact.matter].course is Course.PASSING
    if phase is Phase.RAISED and (change is not None or is_passing):
        yield Step(
            subject=fact.subject,
            known=Known(
                subject=fact.subject,
                level=max(level, 0 if known is None else known.level),
                seen_at=fact.at,
                device=fact.device,
            ),
            change=change,
            severity=_severity(rule, fact, level),
            text=line(fact.text),
            device=fact.device,
        )


def _severity(rule: Rule, fact: Fact, level: int) -> Severity:
    found = rule.severity_of(fact.matter, level)
    return found if rule.severity is not None or fact.severity is None else fact.severity


def _ended(known: Known) -> Step:
    return _over(known, Sight.GONE)


def _lapsed(known: Known) -> Step:
    return _over(known, Sight.LAPSED)


def _over(known: Known, shown: Sight) -> Step:
    _, change = TRANSITIONS[Phase.RAISED, shown]
    return Step(
        subject=known.subject,
        known=None,
        change=change,
        severity=Severity.INFO,
        text="mended, or no longer there",
        device=known.device,
    )
