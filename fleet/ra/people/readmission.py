"""Lets an operator in again whose certificate was lost or has ended: two others vouch, for a new key.

He asks without any certificate, so asking is limited and grants nothing. What he had is revoked before the
new one is signed; whoever is cut off in between asks again with the same key, and gets the same certificate.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from device_agent.wire.problems import ProblemCode
from device_agent.wire.secret import Secret
from fleet.core.csr import Csr, read_csr
from fleet.core.readmission import (
    TRANSITIONS,
    ReadmissionEvent,
    ReadmissionState,
    crowded_out,
    heard,
    is_agreed,
    read_spoken,
    source_of,
    spoken_code,
)
from fleet.core.second_person import OWNER
from fleet.errors import NotFoundError, RefusedError
from fleet.model import AuditEntry, CertificateState, Purpose, RevocationReason, Role
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.desk import Desk, ordered_id
from fleet.ra.issue_own import OwnRequest, certify_own
from fleet.ra.people.batches import surroundings
from fleet.ra.people.second_factor import WRONG_CODE, CodeUse, ShownCode, require_code
from fleet.store import audit, certificates, operators, readmissions, second_factors
from fleet.store.certificates import CertificateQuery, CertificateRecord, with_key
from fleet.store.keys import blocked_because
from fleet.store.readmissions import ReadmissionRecord

LIFETIME = timedelta(hours=24)
MOST_OPEN = 5
"""Unproved pleas in one name that nobody has decided on; another one pushes one of them out."""
_SEVERAL = 1000
_OPERATOR = "operator:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plea:
    """What somebody without a certificate asks for; the code, of his second factor, may be empty."""

    operator: str
    csr: str
    code: Secret
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouching:
    """Who vouches for whom, by the code that he was told."""

    operator: str
    spoken: str
    voice: str
    """An operator's name, or `local`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    readmission: str
    event: ReadmissionEvent
    actor: str
    at: datetime
    reason: str = ""
    serial: str | None = None


async def ask(context: Context, plea: Plea) -> ReadmissionRecord:
    """Put a plea on record, or tell what became of it; the same key is the same plea.

    A name that nobody has is answered as one that somebody has: it tells a stranger nothing.

    Raises:
        BadInputError: the request is none.
        RefusedError: the key is not fit, the code is wrong, or it is asked too often.
    """
    if not context.pleas.allow(f"plea {source_of(plea.address)}", now=context.clock()):
        raise RefusedError("too many pleas in a minute", code=ProblemCode.RATE_LIMITED)
    csr = read_csr(plea.csr)
    known = await context.store.read(readmissions.of_key, csr.key_hash)
    if known is not None and known.operator != plea.operator:
        raise RefusedError("the key is somebody's", hint="make a new key", code=ProblemCode.KEY_IN_USE)
    proved = await _proved(context, plea, known)
    if known is None:
        return await context.store.write(_record_plea, _new_plea(context, plea, csr, proved=proved))
    if proved != known.proved:
        known = replace(known, proved=proved)
        await context.store.write(readmissions.note_proof, known)
    return await _readmit(context, known) if known.state is ReadmissionState.AGREED else known


async def vouch(context: Context, vouching: Vouching) -> ReadmissionRecord:
    """Vouch for somebody, by the code that he read out; with enough voices the certificate is made.

    Raises:
        BadInputError: the code is none.
        NotFoundError: no plea in that name has that code.
        RefusedError: it is one's own, or of somebody who was removed.
        FleetError: it is agreed, and could not be signed: it is when he asks again.
    """
    vouching = replace(vouching, spoken=read_spoken(vouching.spoken))
    if vouching.operator == vouching.voice:
        await _tell_refusal(context, vouching, "his own plea")
        raise RefusedError("nobody vouches for himself", hint="fleet operator list names whom to ask")
    try:
        record = await context.store.write(_vouch, (vouching, context.clock()))
    except RefusedError as error:
        await _tell_refusal(context, vouching, str(error))
        raise
    if record is None:
        await _tell_refusal(context, vouching, "no such plea")
        raise NotFoundError(
            f"nobody asks in the name of {vouching.operator} with that code", hint="fleet operator pleas"
        )
    return await _readmit(context, record) if record.state is ReadmissionState.AGREED else record


async def deny(context: Context, readmission: str, *, actor: str, reason: str = "") -> ReadmissionRecord:
    """End a plea: that key is never certified for him. Raises `NotFoundError`, `RefusedError`."""
    event = ReadmissionEvent.DENY
    step = _Step(readmission=readmission, event=event, actor=actor, at=context.clock(), reason=reason)
    # Not while it is signed for: either it is denied before, or there is a certificate to revoke.
    async with context.turns.of(f"readmission {readmission}"):
        return await context.store.write(_take, step)


async def list_pleas(desk: Desk, limit: int) -> tuple[ReadmissionRecord, ...]:
    """Return the newest pleas."""
    return await desk.store.read(readmissions.list_readmissions, limit)


async def others_of(tx: Transaction, operator: str) -> frozenset[str]:
    """Return who may do everything, but one."""
    everybody = await operators.list_operators(tx, None)
    return frozenset(
        each.name
        for each in everybody
        if each.removed_at is None and each.role is Role.SECURITY and each.name != operator
    )


async def expire_pleas(desk: Desk) -> None:
    """End the pleas that nobody decided on in their time."""
    for record in await desk.store.read(readmissions.overdue, desk.clock()):
        event = ReadmissionEvent.EXPIRE
        step = _Step(readmission=record.readmission, event=event, actor="server", at=desk.clock())
        await desk.store.write(_take, step)


async def _proved(context: Context, plea: Plea, known: ReadmissionRecord | None) -> str:
    """Return how he proved more than his word; a wrong code is refused, whoever he says he is."""
    if known is not None and known.proved:
        return known.proved
    if not plea.code.reveal():
        return ""
    shown = ShownCode(operator=plea.operator, code=plea.code, source=plea.address)
    try:
        await require_code(context, shown, use=CodeUse.RETURN)
    except NotFoundError as error:
        raise RefusedError(WRONG_CODE) from error
    return "totp"


def _new_plea(context: Context, plea: Plea, csr: Csr, *, proved: str) -> ReadmissionRecord:
    now = context.clock().replace(microsecond=0)
    return ReadmissionRecord(
        readmission=ordered_id(context),
        operator=plea.operator,
        key_hash=csr.key_hash,
        csr=plea.csr,
        spoken_code=spoken_code(csr.key_hash),
        proved=proved,
        address=plea.address,
        asked_at=now,
        expires_at=now + LIFETIME,
    )


async def _require_operator(tx: Transaction, name: str) -> None:
    """Refuse whoever is no operator, or none any more."""
    operator = await operators.load_operator(tx, name)
    if operator is None or operator.removed_at is not None:
        raise RefusedError(f"no operator {name} may come back here", hint="fleet operator list")


async def _record_plea(tx: Transaction, record: ReadmissionRecord) -> ReadmissionRecord:
    if await blocked_because(tx, record.key_hash) is not None or await with_key(tx, record.key_hash):
        raise RefusedError("the key is somebody's", hint="make a new key", code=ProblemCode.KEY_IN_USE)
    operator = await operators.load_operator(tx, record.operator)
    if operator is None or operator.removed_at is not None:
        return record  # told as any other, and kept nowhere: nobody can vouch for it
    await _make_room(tx, record)
    await readmissions.insert_readmission(tx, record)
    await audit.append(tx, _told(record, "operator.readmission-asked", actor="unknown", at=record.asked_at))
    return record


async def _make_room(tx: Transaction, record: ReadmissionRecord) -> None:
    """Let one of too many unproved pleas in one name go; what was proved by a second factor stays."""
    found = [one for one in await readmissions.open_of_operator(tx, record.operator) if not one.proved]
    gone = crowded_out([one.address for one in found], most=MOST_OPEN)
    if gone is not None:
        event = ReadmissionEvent.EXPIRE
        plea = found[gone].readmission
        await _take(tx, _Step(readmission=plea, event=event, actor="server", at=record.asked_at))


async def _tell_refusal(context: Context, vouching: Vouching, why: str) -> None:
    details = (("name", vouching.operator), ("why", why))
    actor = f"{_OPERATOR}{vouching.voice}"
    entry = AuditEntry(at=context.clock(), action="operator.vouch-refused", actor=actor, details=details)
    await context.store.write(audit.append, entry)


async def _vouch(tx: Transaction, vouched: tuple[Vouching, datetime]) -> ReadmissionRecord | None:
    """Count a voice, and judge all of them by who may act at this very commit."""
    vouching, now = vouched
    await _require_operator(tx, vouching.operator)
    factor = await second_factors.load_factor(tx, vouching.operator)
    found = await readmissions.open_of_operator(tx, vouching.operator)
    record = next((one for one in found if one.spoken_code == vouching.spoken), None)
    if record is None or record.expires_at <= now:
        return None
    if factor is not None and factor.confirmed_at is not None and not record.proved:
        raise RefusedError(
            f"{record.operator} has a second factor, and showed no code of it",
            hint=f"fleet operator totp reset {record.operator}, if the phone is lost, too",
        )
    if await readmissions.add_voice(tx, record.readmission, vouching.voice, at=now):
        actor = f"{_OPERATOR}{vouching.voice}"
        await audit.append(tx, _told(record, "operator.vouched", actor=actor, at=now))
    voices = frozenset({*record.voices, vouching.voice})
    record = replace(record, voices=tuple(sorted(voices)))
    people = await operators.load_people(tx, None)
    others = await others_of(tx, record.operator)
    counted = heard(voices, people, operator=record.operator, since=record.asked_at)
    independent = heard(others, people, operator=record.operator, since=record.asked_at)
    if is_agreed(counted & (others | {OWNER}), others=independent):
        record = replace(record, state=ReadmissionState.AGREED, decided_at=now)
        await readmissions.save_readmission(tx, record)
    return record


async def _readmit(context: Context, record: ReadmissionRecord) -> ReadmissionRecord:
    """Revoke what he had, then sign for the new key; done again it has the same result."""
    async with context.turns.of(f"readmission {record.readmission}"):
        now_known = await context.store.read(readmissions.load_readmission, record.readmission)
        if now_known is None or now_known.state is not ReadmissionState.AGREED:
            return now_known or record
        await context.store.write(_revoke_earlier, (record, context.clock()))
        context.crls.note_change()
        serial = await _certified(context, record)
        step = _Step(
            readmission=record.readmission,
            event=ReadmissionEvent.FINISH,
            actor="server",
            at=context.clock(),
            serial=serial,
        )
        return await context.store.write(_take, step)


async def _certified(context: Context, record: ReadmissionRecord) -> str:
    """Return the serial of the certificate for the plea's key; it is made unless it is there."""
    for made in await context.store.read(with_key, record.key_hash):
        if made.signed is not None and made.state is CertificateState.ACTIVE:
            return made.serial
    request = OwnRequest(
        purpose=Purpose.OPERATOR, name=record.operator, actor=f"{_OPERATOR}{record.operator}"
    )
    now = context.clock().replace(microsecond=0)
    key = read_csr(record.csr).public_key
    return (await certify_own(surroundings(context), request, key, now=now)).issued.serial


async def _revoke_earlier(tx: Transaction, revoking: tuple[ReadmissionRecord, datetime]) -> None:
    record, at = revoking
    await _require_operator(tx, record.operator)
    for each in await _in_force(tx, record):
        reason = RevocationReason.SUPERSEDED
        await certificates.end_certificate(
            tx, each.serial, state=CertificateState.REVOKED, reason=reason, at=at
        )
        entry = _told(record, "certificate.revoked", actor="server", at=at)
        details = (*entry.details, ("reason_code", reason.value))
        await audit.append(tx, replace(entry, serial=each.serial, details=details))


async def _in_force(tx: Transaction, record: ReadmissionRecord) -> tuple[CertificateRecord, ...]:
    query = CertificateQuery(
        purpose=Purpose.OPERATOR,
        state=CertificateState.ACTIVE,
        name=record.operator,
        limit=_SEVERAL,
    )
    found = await certificates.list_certificates(tx, query)
    return tuple(each for each in found if each.life.key_hash != record.key_hash)


_ACTIONS = {
    ReadmissionEvent.FINISH: "operator.readmitted",
    ReadmissionEvent.DENY: "operator.readmission-denied",
    ReadmissionEvent.EXPIRE: "operator.readmission-expired",
}


async def _take(tx: Transaction, step: _Step) -> ReadmissionRecord:
    record = await readmissions.load_readmission(tx, step.readmission)
    if record is None:
        raise NotFoundError(f"there is no plea {step.readmission}", hint="fleet operator pleas")
    if record.state is ReadmissionState.DONE and step.event is ReadmissionEvent.FINISH:
        return record
    after = TRANSITIONS.get((record.state, step.event))
    if after is None:
        raise RefusedError(
            f"the plea of {record.operator} is {record.state} already", hint="fleet operator pleas"
        )
    record = replace(record, state=after, decided_at=step.at, serial=step.serial)
    await readmissions.save_readmission(tx, record)
    entry = _told(record, _ACTIONS[step.event], actor=step.actor, at=step.at, reason=step.reason)
    await audit.append(tx, entry)
    return record


def _told(
    record: ReadmissionRecord, action: str, *, actor: str, at: datetime, reason: str = ""
) -> AuditEntry:
    details = (
        ("name", record.operator),
        ("readmission", record.readmission),
        ("key_hash", record.key_hash),
        ("address", record.address),
        ("proved", record.proved),
        ("voices", ", ".join(record.voices)),
        ("reason", reason),
    )
    return AuditEntry(
        at=at,
        action=action,
        actor=actor,
        serial=record.serial or "",
        details=tuple((name, value) for name, value in details if value),
    )
