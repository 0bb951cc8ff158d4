"""How often something may be done: so many at once, and so many a second or a day after that.

Whoever asks tells the time, in seconds of a clock that never goes back.
"""

from dataclasses import dataclass

_DAY_SECONDS = 86400


@dataclass(slots=True, kw_only=True)
class Rate:
    """So many a second, and so many at once."""

    per_second: float
    burst: int
    _spent: float = 0.0
    _at: float = 0.0

    def has_one(self, now: float) -> bool:
        """Tell whether there is one to take."""
        self._spent = max(0.0, self._spent - (now - self._at) * self.per_second)
        self._at = now
        return self._spent + 1 <= self.burst

    def allow(self, now: float) -> bool:
        """Take one, if there is one."""
        has_one = self.has_one(now)
        self._spent += has_one
        return has_one


def a_day(most: int) -> Rate:
    """Return a rate of so many a day, which may all come at once."""
    return Rate(per_second=most / _DAY_SECONDS, burst=most)
