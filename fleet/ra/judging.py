"""Judges events on a device as it stands in the store now, and saves what became of it, in one commit.

The pure core decides; nothing here does. A decision is saved even where it is a refusal: an alarm or a
conflict comes with one. Everything in here runs inside a unit of work, and awaits its transaction alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core import events, lifecycle, lineage, trace
from fleet.core.ruling import Terms
from fleet.core.serial import new_serial
from fleet.model import AuditEntry, CertificateState, ClientKind, Device, RevocationReason
from fleet.ports import Transaction
from fleet.ra.choice import IssuerName, choose_issuer
from fleet.ra.gap import gap_refusal
from fleet.store import audit, times
from fleet.store.certificates import SignedCertificate
from fleet.store.choices import issuer_chosen
from fleet.store.codes import Grant
from fleet.store.devices import load_device, save_device


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """When, by whom, and with what at hand a case is judged."""

    at: datetime
    actor: str
    address: str = ""
    randomness: bytes = b""
    """For a serial number, should the verdict be to issue."""
    issuers: Mapping[str, Sequence[IssuerName]] = field(default_factory=dict)
    """Who may sign, by domain, in the order in which they are taken; for the same case."""
    reason: RevocationReason = RevocationReason.UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the commit holds."""

    verdict: events.Verdict
    identity: Identity | None = None
    kind: ClientKind = ClientKind.AGENT
    notice: events.Notice | None = None
    serial: str = ""
    """Of the intent, when the verdict is to issue."""
    issuer: str = ""
    """Who signs it."""
    sequence: int | None = None
    """Of the change that it made to the allowlist."""
    device: Device | None = None
    retold: frozenset[str] = frozenset()
    """Serials of which relying parties are told something else by it."""
    is_on_record: bool = False
    """It changed the device: the audit trail tells of it in the same commit, be it a refusal."""
    terms: Terms | None = None
    """What the certificate will hold, when the verdict is to issue."""
    asked: str = ""
    """What was judged last: the word of the request, as device and server have it, or of the event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One event for one device that must be known."""

    identity: Identity
    event: events.Event
    circumstances: Circumstances


def refused(code: ProblemCode, reason: str) -> Judged:
    """Return the judgement on an asker who is not even a device of ours."""
    return Judged(verdict=events.Nothing(code=code, reason=reason))


async def judge(tx: Transaction, case: Case) -> Judged:
    """Judge one event on the device as it stands."""
    device = await load_device(tx, case.identity)
    if device is None:
        return refused(ProblemCode.UNKNOWN_DEVICE, f"{case.identity.name} is not registered")
    return await settle(tx, device, (case.event,), case.circumstances)


async def settle(
    tx: Transaction,
    before: Device,
    asked: Sequence[events.Event],
    circumstances: Circumstances,
    grants: Sequence[Grant] = (),
) -> Judged:
    """Judge events one after another until one is refused, then save and record the outcome."""
    after, decision = before, None
    for event in asked:
        decision = lifecycle.decide(after, event)
        after = decision.device
        if isinstance(decision.verdict, events.Nothing):
            break
    if decision is None:
        raise ValueError("there is nothing to judge")
    serial, issuer = "", None
    if isinstance(decision.verdict, events.Issue):
        if (frozen := await gap_refusal(tx)) is not None:
            return Judged(verdict=frozen, identity=before.identity)
        candidates = circumstances.issuers.get(before.identity.domain, ())
        chosen = await issuer_chosen(tx, before.identity)
        issuer = await choose_issuer(tx, candidates, now=circumstances.at, chosen=chosen)
        if issuer is None:
            return refused(ProblemCode.UNAVAILABLE, "no issuing CA of this domain is active")
        serial = new_serial(
            now=circumstances.at,
            randomness=circumstances.randomness,
            above=lifecycle.highest_serial(after),
        )
        after = lifecycle.intend(after, decision.verdict, serial=serial, anchor=issuer.anchor)
    outcome = Outcome(
        after=after,
        decision=decision,
        asked=type(event).__name__.lower(),
        serial=serial,
        issuer="" if issuer is None else issuer.issuer,
    )
    return await _save(tx, before, outcome, circumstances, grants)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the core made of a device."""

    after: Device
    decision: events.Decision
    asked: str = ""
    """The word of the event."""
    serial: str = ""
    issuer: str = ""
    """Of a new intent."""
    signed: SignedCertificate | None = None
    """What signing has made of an intent."""
    grants: Sequence[Grant] = ()


async def _save(
    tx: Transaction,
    before: Device,
    outcome: Outcome,
    circumstances: Circumstances,
    grants: Sequence[Grant],
) -> Judged:
    sequence = None
    outcome = replace(outcome, grants=grants)
    if outcome.after != before:
        sequence = await save_device(
            tx,
            before,
            after=outcome.after,
            at=circumstances.at,
            issuer=outcome.issuer,
            reason=circumstances.reason,
            grants=grants,
        )
    await audit.append_many(tx, entries(before, outcome, circumstances))
    return Judged(
        verdict=outcome.decision.verdict,
        identity=before.identity,
        kind=before.kind,
        notice=outcome.decision.notice,
        serial=outcome.serial,
        issuer=outcome.issuer,
        sequence=sequence,
        device=outcome.after,
        retold=lineage.retold(before, outcome.after),
        is_on_record=outcome.after != before,
        asked=outcome.asked,
    )


def entries(before: Device, outcome: Outcome, circumstances: Circumstances) -> tuple[AuditEntry, ...]:
    """Return the audit entries of an outcome: what changed, and what alarms.

    A refusal that changes nothing is not among them: a device could fill the disk with its own. The first one
    holds all that the commit changed of the device, so that the trail can bring an older database up to date.
    """
    found: list[AuditEntry] = []
    if outcome.after != before:
        action, serial, details = _told(outcome) or ("device.changed", "", (("event", outcome.asked),))
        details = (*details, *_became(before, outcome, circumstances))
        found.append(_entry(before, circumstances, action, serial, details))
    if outcome.decision.notice is not None:
        evidence = (("evidence", outcome.decision.notice.value),)
        found.append(_entry(before, circumstances, "device.alarmed", "", evidence))
    return tuple(found)


_Details = tuple[tuple[str, str], ...]


def _became(before: Device, outcome: Outcome, circumstances: Circumstances) -> _Details:
    """Return all that changed, and why, if that was a revocation."""
    origins = {
        grant.code_id: trace.GrantOrigin(kind=grant.kind.value, source=grant.source)
        for grant in outcome.grants
    }
    became = (trace.DETAIL, trace.changes(before, outcome.after, origins=origins))
    ended = {one.serial for one in before.certificates if one.state is CertificateState.REVOKED}
    revoked = {one.serial for one in outcome.after.certificates if one.state is CertificateState.REVOKED}
    return (("reason", circumstances.reason.value), became) if revoked - ended else (became,)


def _told(outcome: Outcome) -> tuple[str, str, _Details] | None:
    match outcome.decision.verdict:
        case events.Issue(key_hash=key_hash, parent=parent):
            details = (("key_hash", key_hash), ("parent", parent or ""), ("issuer", outcome.issuer))
            return "certificate.intended", outcome.serial, details
        case events.Issued(serial=issued):
            return "certificate.issued", issued, signed_details(outcome.signed)
        case events.Confirmed(serial=confirmed):
            return "certificate.confirmed", confirmed, ()
        case events.DoneAck(serial=kept):
            return "device.done", kept, ()
        case events.Dead(key_hash=key_hash):
            return "certificate.dead", "", (("key_hash", key_hash),)
        case events.Nothing(code=code, reason=reason):
            told = (("request", outcome.asked), ("code", code.value), ("reason", reason))
            return "request.refused", "", told
        case _:
            return None


def _entry(
    device: Device, circumstances: Circumstances, action: str, serial: str, details: _Details
) -> AuditEntry:
    where = (("address", circumstances.address),) if circumstances.address else ()
    return AuditEntry(
        at=circumstances.at,
        action=action,
        actor=circumstances.actor,
        domain=device.identity.domain,
        device_id=device.identity.device_id,
        serial=serial,
        details=tuple((name, value) for name, value in (*details, *where) if value),
    )


def signed_details(signed: SignedCertificate | None) -> tuple[tuple[str, str], ...]:
    """Return what the trail tells of a signed certificate: all of its record but the certificate itself."""
    if signed is None:
        return ()
    return (
        ("fingerprint", signed.fingerprint),
        ("issuer", signed.issuer),
        ("not_before", times.text(signed.not_before)),
        ("renew_after", "" if signed.renew_after is None else times.text(signed.renew_after)),
        ("not_after", times.text(signed.not_after)),
        ("profile", signed.profile),
    )
