"""Limits how often something is asked for, by who asks; what is over the limit costs next to nothing.

It never grows without bound: when too many askers are known, those that are idle are forgotten.
"""

from dataclasses import dataclass
from datetime import datetime

_MAX_KEYS = 50_000


@dataclass(frozen=True, slots=True)
class _Bucket:
    tokens: float
    at: datetime


class RateLimiter:
    """A token bucket for each key: `per_minute` requests on average, as many at once."""

    def __init__(self, *, per_minute: int) -> None:
        self._capacity = float(per_minute)
        self._buckets: dict[str, _Bucket] = {}

    def allow(self, key: str, *, now: datetime) -> bool:
        """Take one request of `key` from its allowance; False when there is none left."""
        tokens = self._tokens(key, now)
        if key not in self._buckets and len(self._buckets) >= _MAX_KEYS:
            self._forget_idle(now)
            if len(self._buckets) >= _MAX_KEYS:
                return False
        if tokens < 1.0:
            return False
        self._buckets[key] = _Bucket(tokens - 1.0, now)
        return True

    def give_back(self, key: str, *, now: datetime) -> None:
        """Put back what `allow` took: what counts only once it has failed did not fail."""
        if key in self._buckets:
            self._buckets[key] = _Bucket(min(self._capacity, self._tokens(key, now) + 1.0), now)

    def has_room(self, key: str, *, now: datetime) -> bool:
        """Tell whether `allow` would, and take nothing: for what counts only once it has failed.

        Requests that run at once may so pass the limit together, once.
        """
        return self._tokens(key, now) >= 1.0

    def _tokens(self, key: str, now: datetime) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._capacity
        passed = max(0.0, (now - bucket.at).total_seconds())
        return min(self._capacity, bucket.tokens + passed * self._capacity / 60)

    def _forget_idle(self, now: datetime) -> None:
        full = [key for key in self._buckets if self._tokens(key, now) >= self._capacity]
        for key in full:
            del self._buckets[key]
