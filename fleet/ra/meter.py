"""Counts what the service does while it runs, for whoever watches it; each process begins at nought."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds, in seconds, of the classes that durations are counted in; one more is above them all."""

OK, PENDING = "ok", "pending"
"""The outcomes of what was done, and of what waits for somebody; any other is the code of a problem."""


@dataclass(slots=True)
class Durations:
    """How long things took, by class."""

    classes: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.classes[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    @property
    def count(self) -> int:
        return sum(self.classes)


@dataclass(slots=True)
class Meter:
    """What was counted since the process began."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind of request, and by outcome."""
    durations: dict[str, Durations] = field(default_factory=dict)
    """Of answers, by kind of request."""
    notifications: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Attempts to tell people, by channel and by what came of it: `sent`, `failed`, `dead`."""
    cut_offs: Durations = field(default_factory=Durations)
    """From the commit of a revocation to the last session that it ended."""

    def answered(self, kind: str, outcome: str, seconds: float) -> None:
        """Count an answer."""
        self.answers[kind, outcome] += 1
        self.durations.setdefault(kind, Durations()).add(seconds)
