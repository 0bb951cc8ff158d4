"""An agent's word about its slots, and the evidence that a second copy of it leaves behind.

The order of things is the order of the broker's stamps, never that of processing: an event that comes
late must not accuse an honest device.
"""

from dataclasses import replace

from device_agent.wire.problems import ProblemCode
from fleet.core.events import (
    Confirm,
    Confirmed,
    Connected,
    Decision,
    Done,
    DoneAck,
    Notice,
    Refused,
    noted,
    refuse,
)
from fleet.core.lineage import make_current, note_drop, of_key, raise_alarm, standing
from fleet.core.renewal import answer_again, dead
from fleet.model import Alarm, Certificate, CertificateState, Device, StaleHandshake


def activate(device: Device, certificate: Certificate, _request: Confirm) -> Decision:
    """Make it the current one; its predecessor is superseded."""
    after = make_current(device, certificate.serial, CertificateState.ACTIVE)
    return Decision(device=replace(after, readmit=False), verdict=Confirmed(serial=certificate.serial))


def confirm_again(device: Device, certificate: Certificate, request: Confirm) -> Decision:
    """Say that it is the current one, also when it has expired: that is status, not admission."""
    if certificate.serial != device.current:
        return no_confirm(device, certificate, request)
    return Decision(device=device, verdict=Confirmed(serial=certificate.serial))


def give_up(device: Device, certificate: Certificate, _request: Confirm) -> Decision:
    """Say that it is dead; a key that a code admitted may have a newer certificate: give it that one."""
    newest = standing(of_key(device, certificate.key_hash))
    return answer_again(device, newest or certificate)


def give_up_if_readmitted(device: Device, certificate: Certificate, request: Confirm) -> Decision:
    """Say that it is dead if an operator said that the same device goes on; else refuse."""
    if device.readmit:
        return dead(device, certificate.key_hash)
    return no_confirm(device, certificate, request)


def no_confirm(device: Device, _certificate: Certificate, _request: Confirm) -> Decision:
    """Refuse: it was current once, and is not any more."""
    return refuse(device, ProblemCode.NOT_CURRENT, "the certificate is not the current one")


def no_confirm_revoked(device: Device, _certificate: Certificate, _request: Confirm) -> Decision:
    """Refuse: revoked."""
    return refuse(device, ProblemCode.REVOKED, "the certificate is revoked")


def acknowledge(device: Device, certificate: Certificate, request: Done) -> Decision:
    """Remember that all older slots are gone."""
    if certificate.serial != device.current:
        return no_done(device, certificate, request)
    after = note_drop(device, request.stamp)
    return Decision(device=after, verdict=DoneAck(serial=certificate.serial))


def no_done(device: Device, _certificate: Certificate, _request: Done) -> Decision:
    """Refuse: a certificate that is not current proves nothing about other slots."""
    return refuse(device, ProblemCode.NOT_CURRENT, "the certificate is not the current one")


def weigh_refusal(device: Device, certificate: Certificate, event: Refused) -> Decision:
    """E1: alarm if it was shown after its device had said that it was gone."""
    lowest = max(certificate.serial, device.base or "")
    dropped = any(
        one.serial > lowest and one.done_stamp is not None and one.done_stamp < event.stamp
        for one in device.certificates
    )
    if device.alarm or not dropped:
        return noted(device)
    stale = StaleHandshake(serial=certificate.serial, stamp=event.stamp)
    after = raise_alarm(device, Alarm.ROLLBACK_OR_CLONE, stale=stale)
    return noted(after, Notice.STALE_HANDSHAKE)


def weigh_use(device: Device, certificate: Certificate, event: Connected) -> Decision:
    """E2: after E1, prove a clone if a line that the stale copy cannot hold is alive."""
    # A stale record may hold the key of the stale certificate's child, but of no grandchild whose done
    # came before the stale handshake. So this line is another copy's.
    stale = device.stale
    if device.alarm is not Alarm.ROLLBACK_OR_CLONE or stale is None or certificate.serial != device.current:
        return noted(device)
    is_child = certificate.parent in (None, stale.serial)
    said_done = certificate.done_stamp is not None and certificate.done_stamp < stale.stamp
    if is_child or not said_done or event.stamp <= stale.stamp:
        return noted(device)
    return noted(raise_alarm(device, Alarm.CLONE), Notice.CLONE)
