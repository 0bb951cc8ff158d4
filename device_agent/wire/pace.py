"""When a device renews, and how long it waits after a failure: the pace that a server counts on.

It is part of the contract, for a server that spreads its fleet over time must know what devices make of
its wishes. Nothing here reads a clock or draws a random number: both are arguments.
"""

from datetime import datetime, timedelta

FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(hours=1)

MISSED = timedelta(hours=1)
"""So long after its moment a device asks first whether the server has set another one."""

_RENEW_FROM = 2 / 3
_SPREAD = 1 / 12
_SAFE = 1 / 12
_MOST_DOUBLINGS = 32


def renew_at(
    not_before: datetime, not_after: datetime, *, renew_after: datetime | None, jitter: float
) -> datetime:
    """Return when to ask for the next certificate; `jitter` is in [0, 1).

    The server's wish where it lies within the lifetime, for it alone sees the whole fleet, but never later
    than is safe; else two thirds into the lifetime, spread over the next twelfth of it.
    """
    if renew_after is not None and not_before <= renew_after <= not_after:
        return min(renew_after, latest(not_before, not_after))
    lifetime = not_after - not_before
    return not_before + lifetime * (_RENEW_FROM + _SPREAD * jitter)


def latest(not_before: datetime, not_after: datetime) -> datetime:
    """Return when a device renews at the latest, whatever is wished: a twelfth of the lifetime is left."""
    return not_after - (not_after - not_before) * _SAFE


def is_missed(moment: datetime, *, now: datetime, safe_until: datetime) -> bool:
    """Tell whether a renewal was missed so long ago that the server may have set another moment for it.

    Whoever comes back from an outage asks first, as RFC 9773 4.1 has it, unless there is no time to lose.
    """
    return moment + MISSED < now < safe_until


def own_jitter(key_hash: str) -> float:
    """Return a number in [0, 1) that is this key's alone, and the same after a restart."""
    return int(key_hash[:8], 16) / 2**32


def back_off(
    failures: int, *, jitter: float, first: timedelta = FIRST_WAIT, longest: timedelta = LONGEST_WAIT
) -> timedelta:
    """Return how long to wait after so many failures in a row: full jitter, `jitter` in [0, 1).

    Anything between nothing and the doubled wait, so that a fleet that failed together does not come
    back together.
    """
    doublings = min(max(failures - 1, 0), _MOST_DOUBLINGS)
    return min(longest, first * (1 << doublings)) * jitter
