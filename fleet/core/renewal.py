"""An agent's renewal: by its current certificate, after expiry, and after the loss of a slot.

A renewal is known by parent, attempt and key. Two keys for one attempt under one parent mean that two
copies of the device are alive, or that it was set back; nothing is issued until an operator decides.
"""

from device_agent.wire.problems import ProblemCode
from fleet.core.events import Dead, Decision, Issue, Nothing, Notice, Renew, Replay, Via, frozen, refuse
from fleet.core.lineage import current_of, floor_of, of_key, raise_alarm, standing
from fleet.model import Alarm, Certificate, CertificateState, Device

_ANSWERED_AGAIN = frozenset(
    {
        CertificateState.ISSUED,
        CertificateState.ACTIVE,
        CertificateState.EXPIRED_GRACE,
        CertificateState.EXPIRED_FINAL,
    }
)
"""Issued, or current: such a key is never called dead, however late its request comes again."""


def not_current(device: Device, _parent: Certificate, _request: Renew) -> Decision:
    """Refuse: nothing is renewed from here."""
    return refuse(device, ProblemCode.NOT_CURRENT, "the certificate is not the current one")


def renew_current(device: Device, parent: Certificate, request: Renew) -> Decision:
    """Renew."""
    if parent.serial != device.current:
        return not_current(device, parent, request)
    return _judge(device, parent, request)


def renew_in_grace(device: Device, parent: Certificate, request: Renew) -> Decision:
    """Renew, at recovery only."""
    if request.via is not Via.RECOVERY:
        return not_current(device, parent, request)
    return renew_current(device, parent, request)


def replay_after_grace(device: Device, parent: Certificate, request: Renew) -> Decision:
    """At recovery, repeat what was issued in time; nothing new."""
    before = standing(of_key(device, request.key_hash))
    if request.via is not Via.RECOVERY or parent.serial != device.current or before is None:
        return refuse(device, ProblemCode.NOT_CURRENT, "the time to renew is over; a new code is needed")
    return answer_again(device, before)


def renew_lost_slot(device: Device, parent: Certificate, request: Renew) -> Decision:
    """At recovery, renew if it is the parent of the current one, whose slot the device must have lost."""
    # The attempt has to be higher than that of the current one: it proves that the device went past it.
    current = current_of(device)
    is_parent = current is not None and current.parent == parent.serial
    if request.via is Via.RECOVERY and is_parent:
        return _judge(device, parent, request)
    return renew_readmitted(device, parent, request)


def renew_readmitted(device: Device, parent: Certificate, request: Renew) -> Decision:
    """At recovery, renew if an operator said that the same device goes on."""
    if request.via is Via.RECOVERY and device.readmit:
        return _judge(device, parent, request)
    return not_current(device, parent, request)


def revoked(device: Device, _parent: Certificate, _request: Renew) -> Decision:
    """Refuse: revoked."""
    return refuse(device, ProblemCode.REVOKED, "the certificate is revoked")


def dead(device: Device, key_hash: str) -> Decision:
    """Tell the device to start again with another key."""
    floor = floor_of(device, device.current)
    return Decision(device=device, verdict=Dead(key_hash=key_hash, attempt_floor=floor))


def answer_again(device: Device, before: Certificate) -> Decision:
    """Repeat what a key has got, or tell the device to start again with another one."""
    if before.state in _ANSWERED_AGAIN:
        return Decision(device=device, verdict=Replay(serial=before.serial))
    return dead(device, before.key_hash)


def _judge(device: Device, parent: Certificate, request: Renew) -> Decision:
    if device.alarm:
        return frozen(device)
    if request.attempt is None:
        return refuse(device, ProblemCode.MALFORMED, "an agent must count its attempts")
    before = standing(of_key(device, request.key_hash))
    if before is not None and before.state is not CertificateState.VOID:
        return answer_again(device, before)
    return _judge_attempt(device, parent, request, request.attempt)


def _judge_attempt(device: Device, parent: Certificate, request: Renew, attempt: int) -> Decision:
    floor = floor_of(device, parent.serial)
    same_attempt = [
        one for one in device.certificates if one.parent == parent.serial and one.attempt == attempt
    ]
    is_own = any(one.key_hash == request.key_hash for one in same_attempt)
    if attempt > floor or (attempt == floor and is_own):
        issue = Issue(key_hash=request.key_hash, parent=parent.serial, attempt=attempt)
        return Decision(device=device, verdict=issue)
    is_known = any(of_key(device, request.key_hash))
    if not is_known and any(device.base is None or one.serial > device.base for one in same_attempt):
        return _alarm(device)
    return dead(device, request.key_hash)


def _alarm(device: Device) -> Decision:
    verdict = Nothing(code=ProblemCode.FROZEN, reason="this attempt was made before, by another key")
    after = raise_alarm(device, Alarm.ROLLBACK_OR_CLONE)
    return Decision(device=after, verdict=verdict, notice=Notice.ATTEMPT_REUSED)
