"""Plain clients, EST's and others': they never say confirm or done, so their first use speaks for them.

Until a first use is known, the current certificate and at most two unused ones are admitted. No evidence
of a clone is taken from them: they may keep, drop and restore what they like.
"""

from collections.abc import Callable

from device_agent.wire.problems import ProblemCode
from fleet.core.events import (
    Confirm,
    Confirmed,
    Connected,
    Decision,
    Issue,
    Nothing,
    Notice,
    Renew,
    Replay,
    frozen,
    noted,
)
from fleet.core.lineage import make_current, of_key, restate, standing
from fleet.core.renewal import not_current
from fleet.model import Certificate, CertificateState, Device

MOST_UNUSED = 2

_ANSWERED_AGAIN = frozenset(
    {CertificateState.ISSUED, CertificateState.ACTIVE, CertificateState.EXPIRED_GRACE}
)
_USED = {
    CertificateState.ISSUED: CertificateState.ACTIVE,
    CertificateState.EXPIRED_UNUSED: CertificateState.EXPIRED_GRACE,
}


def use(device: Device, certificate: Certificate, event: Connected) -> Decision:
    """First use: it is current; what was issued beside it before this use is dead, its own children live."""
    if certificate.state is CertificateState.ACTIVE and certificate.serial != device.current:
        return noted(device)

    def was_issued_before(other: Certificate) -> bool:
        return other.issued_stamp is not None and other.issued_stamp < event.stamp

    return noted(_first_use(device, certificate, was_issued_before))


def use_by_word(device: Device, certificate: Certificate, _request: Confirm) -> Decision:
    """Somebody confirms for it, such as a station or AWS's RegisterThing: that is its first use."""
    after = _first_use(device, certificate, lambda other: other.serial < certificate.serial)
    return Decision(device=after, verdict=Confirmed(serial=certificate.serial))


def use_and_renew(device: Device, parent: Certificate, request: Renew) -> Decision:
    """A renewal over a new certificate is its first use; then renew."""
    if device.alarm:
        return frozen(device)
    after = _first_use(device, parent, lambda other: other.serial < parent.serial)
    return _judge(after, parent, request)


def renew_current(device: Device, parent: Certificate, request: Renew) -> Decision:
    """Renew."""
    if device.alarm:
        return frozen(device)
    if parent.serial != device.current:
        return not_current(device, parent, request)
    return _judge(device, parent, request)


def replay_child(device: Device, parent: Certificate, request: Renew) -> Decision:
    """Repeat what was issued from here, if it is in use or waits for it; nothing new."""
    child = _child(device, parent, request)
    if device.alarm or child is None or child.state not in _ANSWERED_AGAIN:
        return not_current(device, parent, request)
    return Decision(device=device, verdict=Replay(serial=child.serial))


def _child(device: Device, parent: Certificate, request: Renew) -> Certificate | None:
    """Return what (parent, key) has got: that pair is all that makes a plain client's request the same."""
    return standing(one for one in of_key(device, request.key_hash) if one.parent == parent.serial)


def _judge(device: Device, parent: Certificate, request: Renew) -> Decision:
    child = _child(device, parent, request)
    if child is not None and child.state in _ANSWERED_AGAIN:
        return Decision(device=device, verdict=Replay(serial=child.serial))
    unused = sum(one.state is CertificateState.ISSUED for one in device.certificates)
    if unused >= MOST_UNUSED:
        verdict = Nothing(code=ProblemCode.NOT_ALLOWED, reason="two certificates are waiting to be used")
        return Decision(device=device, verdict=verdict, notice=Notice.TOO_MANY_UNUSED)
    return Decision(device=device, verdict=Issue(key_hash=request.key_hash, parent=parent.serial))


def _first_use(device: Device, used: Certificate, issued_before: Callable[[Certificate], bool]) -> Device:
    def after(one: Certificate) -> CertificateState:
        is_sibling = one.state is CertificateState.ISSUED and one.serial != used.serial
        # Spared: its own children, and what a fresh code has brought since it became the current one.
        is_from_code = one.parent is None and used.serial == device.current and one.serial > used.serial
        spared = one.parent == used.serial or is_from_code
        return CertificateState.DEAD if is_sibling and issued_before(one) and not spared else one.state

    return make_current(restate(device, after), used.serial, _USED.get(used.state, used.state))
