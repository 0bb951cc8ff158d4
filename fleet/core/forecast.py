"""What ends when, if everything goes on as it is, and what an outage of the CAs would cost. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

HORIZONS = (timedelta(days=1), timedelta(days=7), timedelta(days=30), timedelta(days=90))
"""How far ahead is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time in which nothing is signed. Who was to renew in it does not."""

    begins: datetime
    ends: datetime
    grace: timedelta
    """How long after its end a certificate may still ask for the next one."""

    @property
    def dark_before(self) -> datetime:
        """What ends before is let in by no broker until the CAs are back; then it recovers by itself."""
        return self.ends

    @property
    def lost_before(self) -> datetime:
        """What ends before has no grace left when the CAs are back: its device waits for somebody's code."""
        return self.ends - self.grace


@dataclass(frozen=True, slots=True, kw_only=True)
class DarkDay:
    """A day of an outage: how many devices go dark on it, and how many of them are lost."""

    day: date
    dark: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """How many certificates of a kind end on a day, UTC."""

    kind: str
    day: date
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedHour:
    """How many renewals are planned for an hour."""

    hour: datetime
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """What ends in a week, and how many renewals are planned in it."""

    begins: date
    """Its Monday, UTC."""
    ends: tuple[tuple[str, int], ...]
    """Each kind of which something ends, and how many."""
    renewals: int
    busiest_hour: int
    """Renewals in its fullest hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A kind of certificate: when its next one ends, and how many end within each horizon."""

    kind: str
    next_day: date
    within: tuple[int, ...]


def lines(ends: Iterable[Ends], *, now: datetime) -> tuple[Line, ...]:
    """Return a line for each kind, in the order in which the kinds come first."""
    kinds: dict[str, list[Ends]] = {}
    for one in ends:
        kinds.setdefault(one.kind, []).append(one)
    limits = [(now + horizon).date() for horizon in HORIZONS]
    return tuple(
        Line(
            kind=kind,
            next_day=min(one.day for one in found),
            within=tuple(sum(one.count for one in found if one.day <= limit) for limit in limits),
        )
        for kind, found in kinds.items()
    )


def weeks(
    ends: Iterable[Ends], *, planned: Iterable[PlannedHour], now: datetime, count: int
) -> tuple[Week, ...]:
    """Return so many weeks from this one on; what had ended or was planned before counts in the first."""
    first = _monday(now.date())
    ended: list[Counter[str]] = [Counter() for _ in range(count)]
    hours: list[list[int]] = [[] for _ in range(count)]
    for one in ends:
        if (number := _week_of(one.day, first)) < count:
            ended[number][one.kind] += one.count
    for hour in planned:
        if (number := _week_of(hour.hour.date(), first)) < count:
            hours[number].append(hour.count)
    return tuple(
        Week(
            begins=first + timedelta(weeks=number),
            ends=tuple(sorted(ended[number].items())),
            renewals=sum(hours[number]),
            busiest_hour=max(hours[number], default=0),
        )
        for number in range(count)
    )


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _week_of(day: date, first: date) -> int:
    return max(0, (day - first).days // 7)


def dark_days(outage: Outage, *, dark: Iterable[Ends], lost: Iterable[Ends]) -> tuple[DarkDay, ...]:
    """Return the days of an outage on which devices go dark; what had ended before counts on the first."""
    counts: dict[date, list[int]] = {}
    for place, ends in enumerate((dark, lost)):
        for one in ends:
            counts.setdefault(max(one.day, outage.begins.date()), [0, 0])[place] += one.count
    return tuple(DarkDay(day=day, dark=dark, lost=lost) for day, (dark, lost) in sorted(counts.items()))
