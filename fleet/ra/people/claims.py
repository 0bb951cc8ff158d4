"""One-time codes and batches: what operators hand out so that unknown devices may ask.

A code is shown once, to whoever made it; what is kept is its hash. A batch has one switch that ends it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from device_agent.wire.identity import Identity
from device_agent.wire.secret import Secret
from fleet.core import events
from fleet.core.crockford import spelled
from fleet.errors import NotFoundError, RefusedError
from fleet.model import AuditEntry, CertificateState, CutOff, RevocationReason
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.ra.devices import Enlisting, Registration, enlist, require_domain, require_in_service
from fleet.ra.judging import Circumstances, settle
from fleet.store import audit, claims
from fleet.store.certificates import end_certificate
from fleet.store.claims import PUBLIC_BATCH, Batch
from fleet.store.codes import CodeQuery, CodeRecord, Grant, GrantKind, code_hash, list_codes, load_code

CODE_BYTES = 10
"""80 random bits: 16 letters of Crockford base32, in groups of four."""
CODE_ID_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeOrder:
    """Codes to be made, one for each device; devices that are not registered yet are registered.

    `key_hash` binds the code to a key that is known already. `replaces` ends all that the devices have
    now: after an alarm, or for a unit that was wiped.
    """

    identities: tuple[Identity, ...]
    actor: str
    lifetime: timedelta
    key_hash: str | None = None
    replaces: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCode:
    """A code in clear, for the one who hands it out."""

    identity: Identity
    code_id: str
    code: Secret
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What could let unknown devices in."""

    batches: tuple[Batch, ...]
    codes: tuple[CodeRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedBatch:
    """What a kill switch did."""

    batch: Batch
    certificates: tuple[str, ...]
    """Serials of its claim certificates, revoked."""
    cut_offs: tuple[CutOff, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handout:
    order: CodeOrder
    codes: tuple[NewCode, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    name: str
    domain: str
    actor: str
    reason: str
    at: datetime


async def create_codes(desk: Desk, order: CodeOrder) -> tuple[NewCode, ...]:
    """Make a code for each device: all of them, or none.

    Raises:
        NotFoundError: the configuration has no such domain.
        RefusedError: a device was retired, or an alarm stands and nothing is to be replaced.
    """
    for domain in sorted({identity.domain for identity in order.identities}):
        require_domain(desk, domain)
    now = desk.clock()
    made = tuple(
        NewCode(
            identity=identity,
            code_id=desk.randomness(CODE_ID_BYTES).hex(),
            code=format_code(desk.randomness(CODE_BYTES)),
            expires_at=now + order.lifetime,
        )
        for identity in order.identities
    )
    sequence = await desk.store.write(_hand_out, _Handout(order=order, codes=made, at=now))
    if order.replaces:
        desk.crls.note_change()
    if sequence is not None:
        await desk.broker.reach(sequence)
    return made


async def list_claims(desk: Desk, query: CodeQuery) -> Claims:
    """Return the batches and a page of the codes of a domain, or of all."""
    return Claims(
        batches=await desk.store.read(_batches, query.domain),
        codes=await desk.store.read(list_codes, query),
    )


async def revoke_code(desk: Desk, code_id: str, *, actor: str, reason: str = "") -> CodeRecord:
    """Close a code: it admits nothing any more; what it has admitted stays.

    Raises:
        NotFoundError: there is no such code.
    """
    ending = _Ending(name=code_id, domain="", actor=actor, reason=reason, at=desk.clock())
    return await desk.store.write(_close_code, ending)


async def revoke_batch(desk: Desk, domain: str, name: str, *, actor: str, reason: str = "") -> ClosedBatch:
    """Pull a batch's kill switch: its claim certificates are revoked, and their connections end.

    Devices that were enrolled with them stay; `fleet cert revoke --batch` ends those.

    Raises:
        NotFoundError: there is no such batch.
        RefusedError: it is the public one, which grants nothing.
    """
    ending = _Ending(name=name, domain=domain, actor=actor, reason=reason, at=desk.clock())
    batch, serials, sequence = await desk.store.write(_close_batch, ending)
    desk.crls.note_change()
    cut_offs = () if sequence is None else await desk.broker.reach(sequence)
    return ClosedBatch(batch=batch, certificates=serials, cut_offs=cut_offs)


def format_code(randomness: bytes) -> Secret:
    """Return a code for people: Crockford base32 in groups of four."""
    return Secret(spelled(randomness, signs=len(randomness) * 8 // 5))


async def _hand_out(tx: Transaction, handout: _Handout) -> int | None:
    registrations = tuple(Registration(identity=new.identity) for new in handout.codes)
    await enlist(tx, Enlisting(registrations=registrations, actor=handout.order.actor, at=handout.at))
    newest: int | None = None
    for new in handout.codes:
        sequence = await _grant(tx, handout, new)
        newest = newest if sequence is None else sequence
    return newest


async def _grant(tx: Transaction, handout: _Handout, new: NewCode) -> int | None:
    order = handout.order
    device = await require_in_service(tx, new.identity)
    event = (
        events.Replace(code_id=new.code_id)
        if order.replaces
        else events.Grant(code_id=new.code_id, key_hash=order.key_hash)
    )
    grant = Grant(
        code_id=new.code_id,
        kind=GrantKind.CODE,
        source=order.actor,
        code_hash=code_hash(new.code),
        expires_at=new.expires_at,
    )
    circumstances = Circumstances(
        at=handout.at, actor=order.actor, reason=RevocationReason.CESSATION_OF_OPERATION
    )
    judged = await settle(tx, device, (event,), circumstances, (grant,))
    if isinstance(judged.verdict, events.Nothing):
        raise RefusedError(
            f"{new.identity.name}: {judged.verdict.reason}",
            hint=f"fleet device explain {new.identity.name}",
            code=judged.verdict.code,
        )
    action = "device.replaced" if order.replaces else "code.created"
    await audit.append(tx, _code_entry(new, action, handout))
    return judged.sequence


async def _close_code(tx: Transaction, ending: _Ending) -> CodeRecord:
    known = await load_code(tx, ending.name)
    if known is None:
        raise NotFoundError(f"there is no code {ending.name}", hint="fleet claim list")
    device = await require_in_service(tx, known.identity)
    circumstances = Circumstances(at=ending.at, actor=ending.actor)
    await settle(tx, device, (events.CloseCode(code_id=known.code_id),), circumstances)
    details = (("code", known.code_id), ("reason", ending.reason))
    await audit.append(
        tx,
        AuditEntry(
            at=ending.at,
            action="code.closed",
            actor=ending.actor,
            domain=known.identity.domain,
            device_id=known.identity.device_id,
            details=tuple((name, value) for name, value in details if value),
        ),
    )
    closed = await load_code(tx, ending.name)
    return known if closed is None else closed


async def _close_batch(tx: Transaction, ending: _Ending) -> tuple[Batch, tuple[str, ...], int | None]:
    batch = await claims.load_batch(tx, ending.domain, ending.name)
    if batch is None:
        raise NotFoundError(f"{ending.domain} has no batch {ending.name}", hint="fleet claim list")
    if batch.name == PUBLIC_BATCH:
        raise RefusedError(
            "the public claim certificate grants nothing, and devices with codes need it",
            hint="revoke the codes instead: fleet claim list",
        )
    serials = await claims.claim_serials(tx, batch)
    sequence = await claims.close_batch(tx, batch, at=ending.at)
    for serial in serials:
        await end_certificate(
            tx,
            serial,
            state=CertificateState.REVOKED,
            reason=RevocationReason.PRIVILEGE_WITHDRAWN,
            at=ending.at,
        )
    await audit.append_many(tx, _batch_entries(batch, serials, ending))
    return batch, serials, sequence


async def _batches(tx: Transaction, domain: str) -> tuple[Batch, ...]:
    return await claims.list_batches(tx, domain)


def _code_entry(new: NewCode, action: str, handout: _Handout) -> AuditEntry:
    details = (
        ("code", new.code_id),
        ("key_hash", handout.order.key_hash or ""),
        ("reason", handout.order.reason),
    )
    return AuditEntry(
        at=handout.at,
        action=action,
        actor=handout.order.actor,
        domain=new.identity.domain,
        device_id=new.identity.device_id,
        details=tuple((name, value) for name, value in details if value),
    )


def _batch_entries(batch: Batch, serials: Sequence[str], ending: _Ending) -> list[AuditEntry]:
    details = tuple(
        (name, value) for name, value in (("batch", batch.name), ("reason", ending.reason)) if value
    )
    told = AuditEntry(
        at=ending.at, action="batch.closed", actor=ending.actor, domain=batch.domain, details=details
    )
    code = ("reason_code", RevocationReason.PRIVILEGE_WITHDRAWN.value)
    revoked = replace(told, action="certificate.revoked", details=(*details, code))
    return [told, *(replace(revoked, serial=serial) for serial in serials)]
