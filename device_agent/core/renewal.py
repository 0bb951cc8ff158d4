"""When this device's certificate is to be renewed, by the pace that server and device agree on.

Never reads a clock: the time is an argument.
"""

from datetime import datetime

from device_agent.core.events import Facts, Route
from device_agent.core.record import Credential, DeviceRecord
from device_agent.wire.pace import is_missed, latest, own_jitter, renew_at


def renewal_of(credential: Credential) -> datetime:
    """Return when this credential is to be renewed."""
    return renew_at(
        credential.not_before,
        credential.not_after,
        renew_after=credential.renew_after,
        jitter=own_jitter(credential.key_hash),
    )


def was_missed(credential: Credential, *, now: datetime) -> bool:
    """Tell whether the server is to be asked first whether it has set another moment."""
    safe_until = latest(credential.not_before, credential.not_after)
    return is_missed(renewal_of(credential), now=now, safe_until=safe_until)


def facts(record: DeviceRecord, *, now: datetime, refused: frozenset[Route] = frozenset()) -> Facts:
    """Return what the life cycle needs to know of the moment.

    `refused` are the routes whose credential was turned away since it last worked.
    """
    active = record.active
    if active is None:
        return Facts(refused=refused)
    return Facts(due=now >= renewal_of(active), expired=now > active.not_after, refused=refused)
