"""Which devices somebody means: a query as a value, and whether a device fits it.

`query_text` reads what operators write; `fleet.store.search` asks the database the same question.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from fleet.core.query_fields import ATTRIBUTE
from fleet.model import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A text, or what begins with, ends with, or holds one.

    `parts` are what stands around each `*`: `(text,)`, `(begins, ends)`, or `("", holds, "")`. A `*` alone is
    anything that is there: an empty text fits the empty one only.
    """

    parts: tuple[str, ...]

    @property
    def exact(self) -> str | None:
        """The one text that fits, or None where there are many."""
        return self.parts[0] if len(self.parts) == 1 else None

    def fits(self, text: str) -> bool:
        """Say whether a text fits."""
        match self.parts:
            case (whole,):
                return text == whole
            case (begins, ends):
                long_enough = len(text) >= max(1, len(begins) + len(ends))
                return long_enough and text.startswith(begins) and text.endswith(ends)
            case _:
                return self.parts[1] in text


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    """Any device; what `all` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTerm:
    """A field of text, or one of several texts, fits a pattern; a text that is not there is empty."""

    field: str
    pattern: Pattern


Bound: TypeAlias = datetime | timedelta
"""A time, or how far it is from now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeTerm:
    """A time is there, and `since <= time < until`; None does not bound. Times have whole seconds."""

    field: str
    since: Bound | None = None
    until: Bound | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverTerm:
    """A time is not there: never seen, never enrolled."""

    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """What does not hold."""

    condition: "Condition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """All of them hold."""

    conditions: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Either:
    """One of them holds, or more."""

    conditions: "tuple[Condition, ...]"


Condition: TypeAlias = Everything | TextTerm | TimeTerm | NeverTerm | Not | Every | Either


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What was asked, as it was written and as it was understood."""

    text: str
    condition: Condition

    @property
    def says_all(self) -> bool:
        """Whether it says, in so many words, that everything is meant."""
        match self.condition:
            case Everything():
                return True
            case Every(conditions=conditions):
                return Everything() in conditions
            case _:
                return False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a query can ask of one device. What nobody has said is empty, what never was is None.

    `groups` are those that it was put in; those that are queries themselves are asked by `expand`.
    """

    domain: str
    device_id: str
    standing: Standing
    batch: str = ""
    profile: str = ""
    model: str = ""
    hardware: str = ""
    owner: str = ""
    version: str = ""
    groups: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    issuers: frozenset[str] = frozenset()
    """The names of the CA of its certificate."""
    stations: frozenset[str] = frozenset()
    attributes: Mapping[str, str] = field(default_factory=dict)
    expires: datetime | None = None
    enrolled: datetime | None = None
    registered: datetime
    seen: datetime | None = None


_TEXTS: Mapping[str, Callable[[View], str]] = {
    "domain": lambda view: view.domain,
    "id": lambda view: view.device_id,
    "batch": lambda view: view.batch,
    "profile": lambda view: view.profile,
    "model": lambda view: view.model,
    "hardware": lambda view: view.hardware,
    "owner": lambda view: view.owner,
    "version": lambda view: view.version,
    "standing": lambda view: view.standing.value,
}
_SETS: Mapping[str, Callable[[View], frozenset[str]]] = {
    "group": lambda view: view.groups,
    "tag": lambda view: view.tags,
    "issuer": lambda view: view.issuers,
    "station": lambda view: view.stations,
}
_MOMENTS: Mapping[str, Callable[[View], datetime | None]] = {
    "expires": lambda view: view.expires,
    "enrolled": lambda view: view.enrolled,
    "registered": lambda view: view.registered,
    "seen": lambda view: view.seen,
}


def matches(query: Query, view: View, *, now: datetime) -> bool:
    """Say whether a device fits a query; `now` has whole seconds."""
    return holds(query.condition, view, now=now)


def holds(condition: Condition, view: View, *, now: datetime) -> bool:
    """Say whether a condition holds of a device."""
    match condition:
        case Everything():
            return True
        case TextTerm(field=name, pattern=pattern):
            return any(pattern.fits(text) for text in _texts(view, name))
        case TimeTerm():
            return _within(condition, _MOMENTS[condition.field](view), now)
        case NeverTerm(field=name):
            return _MOMENTS[name](view) is None
        case Not(condition=inner):
            return not holds(inner, view, now=now)
        case Every(conditions=conditions):
            return all(holds(each, view, now=now) for each in conditions)
        case Either(conditions=conditions):
            return any(holds(each, view, now=now) for each in conditions)


def moment_of(bound: Bound, now: datetime) -> datetime:
    """Return the time that a bound means now."""
    return bound if isinstance(bound, datetime) else now + bound


def expand(condition: Condition, groups: Mapping[str, Condition]) -> Condition:
    """Return a condition in which groups that are queries are asked as such, each by its name in `groups`."""
    match condition:
        case TextTerm(field="group", pattern=pattern):
            asked = tuple(each for name, each in sorted(groups.items()) if pattern.fits(name))
            return Either(conditions=(condition, *asked)) if asked else condition
        case Not(condition=inner):
            return Not(condition=expand(inner, groups))
        case Every(conditions=conditions) | Either(conditions=conditions):
            return replace(condition, conditions=tuple(expand(each, groups) for each in conditions))
        case _:
            return condition


def size_of(condition: Condition, groups: Mapping[str, int]) -> int:
    """Return how many terms a condition has once its groups are asked as such; `groups` are their sizes."""
    match condition:
        case TextTerm(field="group", pattern=pattern):
            return 1 + sum(size for name, size in groups.items() if pattern.fits(name))
        case Not(condition=inner):
            return size_of(inner, groups)
        case Every(conditions=conditions) | Either(conditions=conditions):
            return sum(size_of(each, groups) for each in conditions)
        case _:
            return 1


def fields_of(condition: Condition) -> frozenset[str]:
    """Return which fields a condition asks for."""
    match condition:
        case TextTerm(field=name) | TimeTerm(field=name) | NeverTerm(field=name):
            return frozenset({name})
        case Not(condition=inner):
            return fields_of(inner)
        case Every(conditions=conditions) | Either(conditions=conditions):
            return frozenset().union(*map(fields_of, conditions))
        case Everything():
            return frozenset()


def _texts(view: View, name: str) -> frozenset[str]:
    if name in _SETS:
        return _SETS[name](view)
    if name.startswith(ATTRIBUTE):
        return frozenset({view.attributes.get(name.removeprefix(ATTRIBUTE), "")})
    return frozenset({_TEXTS[name](view)})


def _within(term: TimeTerm, moment: datetime | None, now: datetime) -> bool:
    if moment is None:
        return False
    begun = term.since is None or moment >= moment_of(term.since, now)
    return begun and (term.until is None or moment < moment_of(term.until, now))
