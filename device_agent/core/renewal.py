"""When to renew, and how long to wait after a failure.

Never reads a clock and never draws a random number: both are arguments.
"""

from datetime import datetime, timedelta

from device_agent.core.events import Facts, Route
from device_agent.core.record import Credential, DeviceRecord

FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(hours=1)

_RENEW_FROM = 2 / 3
_SPREAD = 1 / 12
_MOST_DOUBLINGS = 32


def renew_at(
    not_before: datetime, not_after: datetime, *, renew_after: datetime | None, jitter: float
) -> datetime:
    """Return when to ask for the next certificate; `jitter` is in [0, 1).

    The server's wish where it lies within the lifetime, for it alone sees the whole fleet; else two
    thirds into the lifetime, spread over the next twelfth of it.
    """
    if renew_after is not None and not_before <= renew_after <= not_after:
        return renew_after
    lifetime = not_after - not_before
    return not_before + lifetime * (_RENEW_FROM + _SPREAD * jitter)


def own_jitter(key_hash: str) -> float:
    """Return a number in [0, 1) that is this key's alone, and the same after a restart."""
    return int(key_hash[:8], 16) / 2**32


def renewal_of(credential: Credential) -> datetime:
    """Return when this credential is to be renewed."""
    return renew_at(
        credential.not_before,
        credential.not_after,
        renew_after=credential.renew_after,
        jitter=own_jitter(credential.key_hash),
    )


def facts(record: DeviceRecord, *, now: datetime, refused: frozenset[Route] = frozenset()) -> Facts:
    """Return what the life cycle needs to know of the moment.

    `refused` are the routes whose credential was turned away since it last worked.
    """
    active = record.active
    if active is None:
        return Facts(refused=refused)
    return Facts(due=now >= renewal_of(active), expired=now > active.not_after, refused=refused)


def back_off(
    failures: int, *, jitter: float, first: timedelta = FIRST_WAIT, longest: timedelta = LONGEST_WAIT
) -> timedelta:
    """Return how long to wait after so many failures in a row: full jitter, `jitter` in [0, 1).

    Anything between nothing and the doubled wait, so that a fleet that failed together does not come
    back together.
    """
    doublings = min(max(failures - 1, 0), _MOST_DOUBLINGS)
    return min(longest, first * (1 << doublings)) * jitter
