"""What time it is, as far as a device can know that which has no clock that it could rely on.

Below a floor no time is ever believed. Above it, a signed time counts for more than the system's clock,
and what has elapsed since the last good moment for more than a clock that jumps.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from device_agent.errors import UntrustedTimeError

LEAP = timedelta(days=7)
"""So far a system clock may be from what is expected before any time was signed: a week without power."""
SLACK = timedelta(minutes=5)
"""So far it may be from a signed time; NTP keeps a clock far closer."""
_DRIFT = 1 / 1000
"""What quartz may add to that over time is a tenth of this."""


class TimeSource(StrEnum):
    """Whose time is believed."""

    SYSTEM = "system"
    """The system's clock, which agrees with all that is known."""
    SIGNED = "signed"
    """What the server signed, and what has elapsed since: the system's clock disagrees."""
    ELAPSED = "elapsed"
    """A time at which the system's clock was good, and what has elapsed since: it has jumped."""
    FLOOR = "floor"
    """The floor, and what has elapsed since: it is this late at least, and may be any time later."""

    @property
    def words(self) -> str:
        """Whose time it is, for people."""
        return _WORDS[self]


_WORDS = {
    TimeSource.SYSTEM: "the system's clock",
    TimeSource.SIGNED: "the server's signed time",
    TimeSource.ELAPSED: "what has elapsed since that clock was good",
    TimeSource.FLOOR: "all that is known",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The machine's clocks: the system's, and the time since boot with sleep counted (CLOCK_BOOTTIME)."""

    system: datetime
    elapsed: timedelta
    is_synchronised: bool = False
    """The kernel says that something like NTP keeps the system's clock right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A time that is believed, and how it is known."""

    now: datetime
    source: TimeSource
    since: datetime
    """The last good moment that it is reckoned from."""
    floor: datetime

    @property
    def words(self) -> str:
        """The time for people."""
        least = " at least" if self.source is TimeSource.FLOOR else ""
        return f"{self.now:%Y-%m-%d %H:%M}Z{least}"

    def judging(self, begins: datetime) -> datetime:
        """Return when something is judged that a server made just now, and that begins so.

        Where nothing but a floor is known, it says itself how late it is at least.
        """
        return max(self.now, begins) if self.source is TimeSource.FLOOR else self.now

    def covers(self, begins: datetime, ends: datetime) -> bool:
        """Tell whether a certificate of these dates is valid now, or may be, where only a floor is known."""
        return self.judging(begins) <= ends and begins <= self.judging(begins)


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """All that is known of the time: a floor, and the last good moment with its place on the boot clock."""

    floor: datetime
    good: datetime
    elapsed: timedelta
    source: TimeSource
    """How `good` is known: signed, from the system's clock, or the floor itself."""

    def expected(self, reading: Reading) -> datetime:
        """Return what time it is if nothing but the boot clock has run since."""
        return self.good + max(reading.elapsed - self.elapsed, timedelta())


def started(floor: datetime, reading: Reading) -> Belief:
    """Return what a process knows at its start."""
    return Belief(floor=floor, good=floor, elapsed=reading.elapsed, source=TimeSource.FLOOR)


def moment(belief: Belief, reading: Reading) -> Moment:
    """Return the time that is believed: the system's clock where it agrees, else without it."""
    if _agrees(belief, reading):
        now, source = reading.system, TimeSource.SYSTEM
    else:
        was_system = belief.source is TimeSource.SYSTEM
        now, source = belief.expected(reading), TimeSource.ELAPSED if was_system else belief.source
    return Moment(now=now, source=source, since=belief.good, floor=belief.floor)


def looked(belief: Belief, reading: Reading) -> Belief:
    """Return what is known after a look at the clocks: the first good moment is held against later jumps."""
    if belief.source is TimeSource.FLOOR and _agrees(belief, reading):
        return replace(belief, good=reading.system, elapsed=reading.elapsed, source=TimeSource.SYSTEM)
    return belief


def heard(belief: Belief, told: datetime, reading: Reading) -> Belief:
    """Return what is known after a time came whose signature and nonce are right; it is the new floor.

    Raises:
        UntrustedTimeError: it is below the floor.
    """
    if told < belief.floor:
        raise UntrustedTimeError(
            f"the server's time, {told:%Y-%m-%d %H:%M}Z, is below the floor, {belief.floor:%Y-%m-%d %H:%M}Z",
            hint="look at the clock of the server",
        )
    return Belief(floor=told, good=told, elapsed=reading.elapsed, source=TimeSource.SIGNED)


def raised(belief: Belief, floor: datetime, reading: Reading) -> Belief:
    """Return what is known where it is at least so late; an earlier floor changes nothing."""
    if floor <= belief.floor:
        return belief
    if belief.expected(reading) < floor:
        return started(floor, reading)
    return replace(belief, floor=floor)


def _agrees(belief: Belief, reading: Reading) -> bool:
    expected = belief.expected(reading)
    if belief.source is TimeSource.FLOOR and reading.is_synchronised:
        return reading.system >= belief.floor
    near = LEAP
    if belief.source is TimeSource.SIGNED:
        near = SLACK + (expected - belief.good) * _DRIFT
    return reading.system >= belief.floor and abs(reading.system - expected) <= near
