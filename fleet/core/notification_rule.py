"""Who is told of what, when and by which channel: a rule of `fleet.toml` as a value. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.core.matters import MATTERS, Course, Matter, Severity
from fleet.core.station_rules import Shift


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Receiver:
    """One place where a notification goes: a channel by its name, and the mailbox on it, if it has any."""

    channel: str
    address: str = ""

    def __str__(self) -> str:
        return f"{self.channel}:{self.address}" if self.address else self.channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Who is told as well where nobody has acknowledged a notification so long after it was made."""

    after: timedelta
    to: tuple[Receiver, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """When people are left alone, unless it matters as much as `unless`."""

    shifts: tuple[Shift, ...] = ()
    unless: Severity = Severity.CRITICAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One `[[notice.rule]]`."""

    name: str
    matters: frozenset[Matter]
    to: tuple[Receiver, ...] = ()
    owners: str = ""
    """The mail channel by which owners are told of their own devices; empty: they are not."""
    domains: frozenset[str] = frozenset()
    """Only what is of these; empty: of all, and what is of none."""
    thresholds: tuple[timedelta, ...] = tuple(timedelta(days=days) for days in (30, 14, 7, 1))
    """How long before its end something is told of, the longest first."""
    severity: Severity | None = None
    """In place of what the matter itself has."""
    gather: timedelta = timedelta(minutes=10)
    """So long what happens is gathered, so that one message tells of all of it."""
    quiet: QuietHours = QuietHours()
    escalations: tuple[Escalation, ...] = ()
    """In the order of their times."""

    def covers(self, matter: Matter, domain: str) -> bool:
        """Tell whether the rule is about something in a domain; an empty one is the fleet as a whole."""
        return matter in self.matters and (not self.domains or domain in self.domains)

    def level(self, *, count: int, ends: datetime | None, now: datetime) -> int:
        """Return how far something is gone: thresholds that are behind it, or how many there are."""
        return count if ends is None else sum(ends - now <= threshold for threshold in self.thresholds)

    def severity_of(self, matter: Matter, level: int) -> Severity:
        """Return how much it matters at a level."""
        if self.severity is not None:
            return self.severity
        about = MATTERS[matter]
        is_last = about.course is Course.ENDING and level >= len(self.thresholds)
        return Severity.CRITICAL if is_last else about.severity
