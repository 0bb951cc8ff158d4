"""Renewals that an outage has held up: at which pace they are made up for, so that nobody's time runs out.

Who ends first comes first. The pace is the stated one, and a higher one only where that would be too late.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from device_agent.wire.pace import latest


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Certificates that were to be renewed in an outage, as many as have this lifetime."""

    not_before: datetime
    not_after: datetime
    count: int = 1

    @property
    def deadline(self) -> datetime:
        """Until when they are renewed in good time."""
        return latest(self.not_before, self.not_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How a backlog is worked off: one after the other, so many a second, from a moment on."""

    begins: datetime
    a_second: float

    def moment(self, place: int) -> datetime:
        """Return when the one at this place is to be renewed, the first is 0; in whole seconds."""
        return (self.begins + timedelta(seconds=place / self.a_second)).replace(microsecond=0)


def drain_of(held: Iterable[Held], *, begins: datetime, a_second: float) -> Drain:
    """Return the slowest drain, from the stated pace up, that is through with each before its deadline.

    `held` is in the order in which it is worked off: by end. Who is past his deadline is due at once in any
    case, and asks for no other pace.
    """
    total, pace = 0, a_second
    for one in held:
        total += one.count
        left = (one.deadline - begins).total_seconds()
        if left > 0:
            pace = max(pace, total / left)
    return Drain(begins=begins, a_second=pace)
