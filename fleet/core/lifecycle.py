"""The server's half of the life of a certificate.

`decide` judges what a device asks, what brokers and clocks tell, and what operators do. Judged is always
the state at commit: load, decide and save in one unit of work, and save the device whatever the verdict.
A certificate takes two such units, around its signature:

    decide -> Issue, intend     the intent is on record, as a void certificate
    sign                        outside
    signed -> Issued            judged again, on the state of then; else the intent stays void for ever

Never signs, and never looks at a clock, a code or a key: proof of these stands behind every event.
"""

from collections.abc import Mapping
from dataclasses import replace

from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import ReportedState
from fleet.core.enrollment import enroll
from fleet.core.events import (
    Confirm,
    Connected,
    Decision,
    Done,
    Enroll,
    Event,
    Expired,
    GraceOver,
    Issue,
    Issued,
    IssueStamped,
    Refused,
    Renew,
    Report,
    Unconfirmed,
    noted,
    refuse,
)
from fleet.core.lineage import admitted, bury, certificate_of, highest_serial, is_off, note_drop, put
from fleet.core.resolution import act
from fleet.core.rules import RULES, Rules
from fleet.model import Certificate, CertificateState, ClientKind, Device

__all__ = ["admitted", "decide", "highest_serial", "intend", "reported", "signed"]


def decide(device: Device, event: Event, *, rules: Mapping[ClientKind, Rules] = RULES) -> Decision:
    """Return the device to be saved, and what to say."""
    match event:
        case Enroll() | Renew() | Confirm() | Done() if is_off(device):
            return refuse(device, ProblemCode.SUSPENDED, "the device is suspended")
        case Enroll():
            return enroll(device, event)
        case Renew() | Confirm() | Done():
            return _asked(device, event, rules[device.kind])
        case Connected() | Refused() | Unconfirmed() | Expired() | GraceOver() | IssueStamped():
            return _told(device, event, rules[device.kind])
        case _:
            return act(device, event)


def _asked(device: Device, request: Renew | Confirm | Done, rules: Rules) -> Decision:
    serial = request.parent if isinstance(request, Renew) else request.serial
    shown = certificate_of(device, serial)
    if shown is None:
        return refuse(device, ProblemCode.NOT_CURRENT, "the certificate is not of this device")
    row = rules.asked[shown.state]
    match request:
        case Renew():
            return row.renew(device, shown, request)
        case Confirm():
            return row.confirm(device, shown, request)
        case Done():
            return row.done(device, shown, request)


def _told(device: Device, report: Report, rules: Rules) -> Decision:
    certificate = certificate_of(device, report.serial)
    if certificate is None:
        return noted(device)
    row = rules.told[certificate.state]
    match report:
        case Connected():
            return row.connected(device, certificate, report)
        case Refused():
            return row.refused(device, certificate, report)
        case Unconfirmed():
            return row.unconfirmed(device, certificate, report)
        case Expired():
            return row.expired(device, certificate, report)
        case GraceOver():
            return row.grace_over(device, certificate, report)
        case IssueStamped():
            return noted(put(device, replace(certificate, issued_stamp=report.stamp)))


def intend(device: Device, issue: Issue, *, serial: str, anchor: str) -> Device:
    """Return the device with the intent to sign on record; `serial` is above all that it has.

    Raises:
        ValueError: the serial is not.
    """
    highest = highest_serial(device)
    if highest is not None and serial <= highest:
        raise ValueError("a serial must be above every earlier one of its device")
    intent = Certificate(
        serial=serial,
        key_hash=issue.key_hash,
        state=CertificateState.VOID,
        attempt=issue.attempt,
        anchor=anchor,
        code_id=issue.code_id,
        parent=issue.parent,
    )
    return put(device, intent)


def signed(
    device: Device, request: Enroll | Renew, *, serial: str, rules: Mapping[ClientKind, Rules] = RULES
) -> Decision:
    """Judge a request once more, now that its intent was signed, as if it came only now.

    `Issued` where the answer is still to issue; else what is to be said instead, and the intent stays void.
    """
    intent = certificate_of(device, serial)
    if intent is None or intent.state is not CertificateState.VOID:
        return refuse(device, ProblemCode.NOT_CURRENT, "the intent was withdrawn")
    others = tuple(found for found in device.certificates if found.serial != serial)
    again = decide(replace(device, certificates=others), request, rules=rules)
    after = put(again.device, intent)
    if not isinstance(again.verdict, Issue):
        return replace(again, device=after)
    # A device tells newer from older by the serial: what was overtaken is asked for again.
    if any(found.serial > serial and found.state is not CertificateState.VOID for found in others):
        return refuse(after, ProblemCode.BUSY, "a newer certificate was issued in the meantime")
    return replace(again, device=_issue(after, intent, request), verdict=Issued(serial=serial))


def _issue(device: Device, intent: Certificate, request: Enroll | Renew) -> Device:
    if device.kind is ClientKind.AGENT or isinstance(request, Enroll):
        # One unconfirmed certificate a device: a newer one proves that the older key was given up.
        device = bury(device, frozenset({CertificateState.ISSUED}))
    if isinstance(request, Renew) and intent.parent == device.current:
        # A device that renews by its current certificate has dropped what came before it.
        device = note_drop(device, request.stamp)
    if isinstance(request, Enroll) and request.kind is not None:
        # Not before it is issued: a question alone changes nobody's rules.
        device = replace(device, kind=request.kind)
    return put(device, replace(intent, state=CertificateState.ISSUED))


_REPORTED = {
    CertificateState.VOID: ReportedState.REVOKED,
    CertificateState.ISSUED: ReportedState.ISSUED,
    CertificateState.ACTIVE: ReportedState.ACTIVE,
    CertificateState.EXPIRED_UNUSED: ReportedState.EXPIRED,
    CertificateState.EXPIRED_GRACE: ReportedState.EXPIRED,
    CertificateState.EXPIRED_FINAL: ReportedState.EXPIRED,
    CertificateState.SUPERSEDED: ReportedState.SUPERSEDED,
    CertificateState.SUPERSEDED_ACKED: ReportedState.SUPERSEDED,
    CertificateState.DEAD: ReportedState.REVOKED,
    CertificateState.REVOKED: ReportedState.REVOKED,
}


def reported(device: Device, serial: str) -> ReportedState | None:
    """Return what the device is told about a certificate, or None if it has no such."""
    certificate = certificate_of(device, serial)
    if certificate is None:
        return None
    if is_off(device) and certificate.state is not CertificateState.REVOKED:
        return ReportedState.SUSPENDED
    return _REPORTED[certificate.state]
