"""What operators do to a device as a whole: keep it out, end it, let it start again.

Revocation goes by lineage: no certificate, intent, code or request in flight outlives it.
"""

from dataclasses import replace

from device_agent.wire.problems import ProblemCode
from fleet.core.events import (
    Act,
    CarryOn,
    CloseCode,
    Decision,
    DismissConflict,
    Grant,
    Replace,
    Resume,
    Revoke,
    Suspend,
    noted,
    refuse,
)
from fleet.core.lineage import highest_serial, restate
from fleet.model import Alarm, CertificateState, Code, Device


def act(device: Device, event: Act) -> Decision:
    """Apply an operator's act."""
    match event:
        case Suspend():
            return noted(replace(device, suspended=True))
        case Resume():
            return noted(replace(device, suspended=False))
        case Revoke():
            return noted(replace(_revoke(device), revoked=True))
        case Grant():
            return _grant(device, event)
        case CloseCode():
            return noted(_close(device, event.code_id))
        case CarryOn():
            return _carry_on(device)
        case Replace():
            return noted(_replace(device, event))
        case DismissConflict():
            return noted(replace(device, code_conflict=False))


def _revoke(device: Device) -> Device:
    return replace(restate(device, lambda _: CertificateState.REVOKED), codes=())


def _grant(device: Device, event: Grant) -> Decision:
    if device.alarm:
        return refuse(device, ProblemCode.FROZEN, "an alarm stands: carry on with the device, or replace it")
    # A code is never opened again: a second key on an old code could be a thief's.
    if any(found.code_id == event.code_id for found in device.codes):
        return refuse(device, ProblemCode.CODE_INVALID, "the code is open already")
    code = Code(code_id=event.code_id, key_hash=event.key_hash)
    return noted(replace(device, codes=(*device.codes, code), revoked=False, code_conflict=False))


def _close(device: Device, code_id: str) -> Device:
    return replace(device, codes=tuple(found for found in device.codes if found.code_id != code_id))


def _carry_on(device: Device) -> Decision:
    if not device.alarm:
        return refuse(device, ProblemCode.NOT_ALLOWED, "there is no alarm")
    return noted(replace(_calm(device), readmit=True))


def _replace(device: Device, event: Replace) -> Device:
    fresh = (Code(code_id=event.code_id),)
    after = replace(_revoke(device), codes=fresh, revoked=False, code_conflict=False, readmit=False)
    return _calm(after)


def _calm(device: Device) -> Device:
    """Return the device without alarm; evidence about what it has so far counts no more."""
    return replace(device, alarm=Alarm.NONE, stale=None, base=highest_serial(device))
