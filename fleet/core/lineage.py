"""Questions about one device's certificates, and the few changes that several rules share.

Nothing here is a rule: who may do what stands in `lifecycle` and the modules that it names.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from fleet.model import (
    ADMITTED_STATES,
    Alarm,
    Certificate,
    CertificateState,
    ClientKind,
    Device,
    StaleHandshake,
)

_REPLACEABLE = frozenset(
    {CertificateState.ACTIVE, CertificateState.EXPIRED_GRACE, CertificateState.EXPIRED_FINAL}
)
# To a relying party it is the same whether the device has dropped what was superseded.
_ENDS = {
    CertificateState.SUPERSEDED: "superseded",
    CertificateState.SUPERSEDED_ACKED: "superseded",
    CertificateState.DEAD: "given up",
    CertificateState.REVOKED: "revoked",
}
_HOLDABLE = frozenset(
    {
        CertificateState.ISSUED,
        CertificateState.ACTIVE,
        CertificateState.EXPIRED_UNUSED,
        CertificateState.EXPIRED_GRACE,
        CertificateState.EXPIRED_FINAL,
    }
)


def certificate_of(device: Device, serial: str | None) -> Certificate | None:
    """Return the device's certificate of that serial."""
    return next((found for found in device.certificates if found.serial == serial), None)


def current_of(device: Device) -> Certificate | None:
    """Return the certificate that was confirmed last."""
    return certificate_of(device, device.current)


def highest_serial(device: Device) -> str | None:
    """Return the serial above which the next one must lie."""
    return max((found.serial for found in device.certificates), default=None)


def is_off(device: Device) -> bool:
    """Tell whether the device is kept out, by an operator or by proof of a clone."""
    return device.suspended or device.alarm is Alarm.CLONE


def admitted(device: Device) -> frozenset[str]:
    """Return the serials that a broker lets in: a function of the record and of nothing else."""
    if is_off(device):
        return frozenset()
    return frozenset(found.serial for found in device.certificates if found.state in ADMITTED_STATES)


def held(device: Device) -> frozenset[str]:
    """Return the serials that are on hold for relying parties: what a device that is off would go on with."""
    if not is_off(device):
        return frozenset()
    return frozenset(found.serial for found in device.certificates if found.state in _HOLDABLE)


def retold(before: Device, after: Device) -> frozenset[str]:
    """Return the serials of which revocation lists say something else after a change of their device."""
    earlier, later = _listed(before), _listed(after)
    return frozenset(
        serial for serial in earlier.keys() | later.keys() if earlier.get(serial) != later.get(serial)
    )


def _listed(device: Device) -> dict[str, str]:
    """Return the serials on revocation lists, each with a word for what it is there for."""
    ended = {found.serial: _ENDS[found.state] for found in device.certificates if found.state in _ENDS}
    return ended | dict.fromkeys(held(device), "on hold")


def of_key(device: Device, key_hash: str) -> Iterator[Certificate]:
    """Yield the certificates and intents of a key, oldest first."""
    return (found for found in device.certificates if found.key_hash == key_hash)


def standing(certificates: Iterator[Certificate]) -> Certificate | None:
    """Return the newest of these that was delivered, or else the newest intent."""
    found = list(certificates)
    delivered = [one for one in found if one.state is not CertificateState.VOID]
    return next(reversed(delivered or found), None)


def floor_of(device: Device, parent: str | None) -> int:
    """Return the highest attempt under a parent, intents included; attempts are counted for each parent."""
    return max((found.attempt for found in device.certificates if found.parent == parent), default=0)


def restate(device: Device, state: Callable[[Certificate], CertificateState]) -> Device:
    """Return the device with each certificate's state told anew."""
    told = tuple(
        found if found.state is (after := state(found)) else replace(found, state=after)
        for found in device.certificates
    )
    return replace(device, certificates=told)


def put(device: Device, certificate: Certificate) -> Device:
    """Return the device with this certificate in the place of the one with its serial, or added."""
    others = (found for found in device.certificates if found.serial != certificate.serial)
    rows = sorted((*others, certificate), key=lambda found: found.serial)
    return replace(device, certificates=tuple(rows))


def turn(device: Device, certificate: Certificate, state: CertificateState) -> Device:
    """Return the device with one certificate in another state."""
    return put(device, replace(certificate, state=state))


def make_current(device: Device, serial: str, state: CertificateState) -> Device:
    """Return the device with this certificate as its current one, and the one before superseded."""

    def after(one: Certificate) -> CertificateState:
        if one.serial == serial:
            return state
        # What was revoked stays so, whatever takes its place.
        is_replaced = one.serial == device.current and one.state in _REPLACEABLE
        return CertificateState.SUPERSEDED if is_replaced else one.state

    return replace(restate(device, after), current=serial)


def bury(device: Device, states: frozenset[CertificateState]) -> Device:
    """Return the device with its certificates in these states dead."""
    return restate(device, lambda one: CertificateState.DEAD if one.state in states else one.state)


def raise_alarm(device: Device, level: Alarm, *, stale: StaleHandshake | None = None) -> Device:
    """Return the device under alarm: nothing unconfirmed outlives it."""
    # Nor does an intent: asked for again after the alarm, it would be new evidence of the old kind.
    after = bury(device, frozenset({CertificateState.VOID, CertificateState.ISSUED}))
    return replace(after, alarm=level, stale=stale or device.stale)


def note_drop(device: Device, stamp: int) -> Device:
    """Return the device, now known to hold nothing older than its current certificate."""
    current = current_of(device)
    if device.kind is not ClientKind.AGENT or current is None:
        return device
    # The first word counts: the older slot was gone from then on.
    known = stamp if current.done_stamp is None else current.done_stamp
    return restate(
        put(device, replace(current, done_stamp=known)),
        lambda one: (
            CertificateState.SUPERSEDED_ACKED if one.state is CertificateState.SUPERSEDED else one.state
        ),
    )
