"""What operators do with devices: register, list, approve, suspend, resume, retire.

Whatever touches the life of a certificate is judged by the core, inside the unit of work that saves it.
"""

from dataclasses import dataclass, field
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core import events
from fleet.core.marking import Marks
from fleet.core.moving import KEPT_OUT
from fleet.errors import NotFoundError, RefusedError
from fleet.model import AuditEntry, ClientKind, CutOff, Device, Purpose, RevocationReason
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.ra.judging import Circumstances, settle
from fleet.store import audit, certificates, claims, inventory, waiting
from fleet.store.certificates import CertificateQuery, CertificateRecord
from fleet.store.codes import CodeQuery, CodeRecord, Grant, list_codes
from fleet.store.devices import DeviceRecord, insert_devices, load_device, load_record, mark_retired
from fleet.store.inventory import DeviceQuery, DeviceSummary
from fleet.store.listed import Listing, listings_of
from fleet.store.marks import marks_of
from fleet.store.moves import newest_move
from fleet.store.proofs import ProofRecord, proofs_of

_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A device that is to be known from now on; a batch that is new comes into being with it."""

    identity: Identity
    kind: ClientKind = ClientKind.AGENT
    batch: str | None = None
    hardware: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """All that is on file about a device, but its story."""

    summary: DeviceSummary
    device: Device
    record: DeviceRecord
    certificates: tuple[CertificateRecord, ...]
    codes: tuple[CodeRecord, ...]
    waiting: tuple[waiting.Waiting, ...]
    proofs: tuple[ProofRecord, ...] = ()
    listings: tuple[Listing, ...] = ()
    marks: Marks = field(default_factory=Marks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an act did, and which live sessions it ended."""

    identity: Identity
    action: str
    cut_offs: tuple[CutOff, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Enlisting:
    """Registrations to be written at once."""

    registrations: tuple[Registration, ...]
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What an operator does to a device, and why."""

    identity: Identity
    action: str
    actor: str
    reason: str
    at: datetime


async def register(desk: Desk, registration: Registration, *, actor: str) -> None:
    """Register one device.

    Raises:
        RefusedError: it is registered already.
        NotFoundError: the configuration has no such domain.
    """
    require_domain(desk, registration.identity.domain)
    enlisting = Enlisting(registrations=(registration,), actor=actor, at=desk.clock())
    if not await desk.store.write(enlist, enlisting):
        name = registration.identity.name
        raise RefusedError(f"{name} is registered already", hint=f"fleet device show {name}")


async def list_devices(desk: Desk, query: DeviceQuery) -> tuple[DeviceSummary, ...]:
    """Return a page of devices."""
    return await desk.store.search(inventory.list_devices, query)


async def show(desk: Desk, identity: Identity) -> DeviceView:
    """Return what is on file about a device; raises `NotFoundError`."""
    view = await desk.store.read(view_of, identity)
    if view is None:
        raise unknown(identity)
    return view


async def suspend(desk: Desk, identity: Identity, *, actor: str, reason: str = "") -> Outcome:
    """Keep a device out for now, and end its sessions; nothing is revoked."""
    return await _perform(desk, identity, "device.suspended", actor=actor, reason=reason)


async def resume(desk: Desk, identity: Identity, *, actor: str, reason: str = "") -> Outcome:
    """Let a device go on: ends a suspension, and an alarm, which then was none."""
    return await _perform(desk, identity, "device.resumed", actor=actor, reason=reason)


async def retire(desk: Desk, identity: Identity, *, actor: str, reason: str = "") -> Outcome:
    """Take a device out of service for good: all it has is revoked, its name is not used again."""
    return await _perform(desk, identity, "device.retired", actor=actor, reason=reason)


async def enlist(tx: Transaction, enlisting: Enlisting) -> int:
    """Write those registrations that are new, with their batches; return how many were."""
    new = [
        registration
        for registration in enlisting.registrations
        if await load_record(tx, registration.identity) is None
    ]
    for domain, batch in sorted({(each.identity.domain, each.batch) for each in new if each.batch}):
        await require_batch(tx, domain, batch, at=enlisting.at)
    await insert_devices(tx, [_record(registration, enlisting.at) for registration in new])
    await audit.append_many(tx, [_registered(registration, enlisting) for registration in new])
    return len(new)


async def view_of(tx: Transaction, identity: Identity) -> DeviceView | None:
    """Return what is on file about a device, or None."""
    device, record = await load_device(tx, identity), await load_record(tx, identity)
    if device is None or record is None:
        return None
    domain, device_id = identity.domain, identity.device_id
    only = DeviceQuery(domain=domain, prefix=device_id, limit=1)
    of_device = CertificateQuery(domain=domain, device_id=device_id, purpose=Purpose.DEVICE, limit=_PAGE)
    (summary,) = await inventory.list_devices(tx, only)
    return DeviceView(
        summary=summary,
        device=device,
        record=record,
        certificates=await certificates.list_certificates(tx, of_device),
        codes=await list_codes(tx, CodeQuery(domain=domain, device_id=device_id, limit=_PAGE)),
        waiting=await waiting.of_device(tx, identity),
        proofs=await proofs_of(tx, identity),
        listings=await listings_of(tx, identity),
        marks=await marks_of(tx, identity),
    )


def require_domain(desk: Desk, domain: str) -> None:
    """Check that the fleet has a domain; raises `NotFoundError`."""
    if desk.config.domain(domain) is None:
        known = ", ".join(each.name for each in desk.config.domains)
        raise NotFoundError(f"the fleet has no domain {domain}", hint=f"it has: {known}")


def unknown(identity: Identity) -> NotFoundError:
    """Return the error for a device that is not registered."""
    return NotFoundError(
        f"{identity.name} is not registered",
        hint=f"fleet device register {identity.device_id} --domain {identity.domain}",
    )


async def require_device(tx: Transaction, identity: Identity) -> Device:
    """Return a device that must be registered; raises `NotFoundError`."""
    device = await load_device(tx, identity)
    if device is None:
        raise unknown(identity)
    return device


async def require_in_service(tx: Transaction, identity: Identity) -> Device:
    """Return a device that must be registered and not retired; raises `NotFoundError`, `RefusedError`."""
    device, record = await require_device(tx, identity), await load_record(tx, identity)
    if record is not None and record.retired_at is not None:
        raise RefusedError(
            f"{identity.name} was retired",
            hint="register the device that takes its place under another id",
        )
    return device


async def _perform(desk: Desk, identity: Identity, action: str, *, actor: str, reason: str) -> Outcome:
    act = Act(identity=identity, action=action, actor=actor, reason=reason, at=desk.clock())
    sequence = await desk.store.write(_WORKS[action], act)
    if _WORKS[action] is _retire:
        desk.crls.note_change()
    else:  # brokers are not told of holds: the allowlist tells them
        desk.crls.note_superseded()
    return await reached(desk, act, sequence)


async def reached(desk: Desk, act: Act, sequence: int | None) -> Outcome:
    cut_offs = () if sequence is None else await desk.broker.reach(sequence)
    return Outcome(identity=act.identity, action=act.action, cut_offs=cut_offs)


async def _suspend(tx: Transaction, act: Act) -> int | None:
    device = await require_in_service(tx, act.identity)
    return await perform(tx, device, act, (events.Suspend(),))


async def _resume(tx: Transaction, act: Act) -> int | None:
    device = await require_in_service(tx, act.identity)
    move = await newest_move(tx, act.identity)
    if move is not None and move.state in KEPT_OUT:
        raise RefusedError(
            f"{act.identity.name} came back, and is {move.state}",
            hint=f"fleet move readmit {act.identity.name}",
        )
    asked: list[events.Event] = []
    if device.alarm:
        asked.append(events.CarryOn())
    if device.code_conflict:
        asked.append(events.DismissConflict())
    return await perform(tx, device, act, (*asked, events.Resume()))


async def _retire(tx: Transaction, act: Act) -> int | None:
    device = await require_device(tx, act.identity)
    await mark_retired(tx, act.identity, act.at)
    await waiting.drop_waiting(tx, act.identity)
    return await perform(tx, device, act, (events.Revoke(),))


_WORKS = {"device.suspended": _suspend, "device.resumed": _resume, "device.retired": _retire}


async def perform(
    tx: Transaction,
    device: Device,
    act: Act,
    asked: tuple[events.Event, ...],
    *,
    grants: tuple[Grant, ...] = (),
    key_hash: str = "",
) -> int | None:
    circumstances = Circumstances(at=act.at, actor=act.actor, reason=RevocationReason.CESSATION_OF_OPERATION)
    judged = await settle(tx, device, asked, circumstances, grants)
    if isinstance(judged.verdict, events.Nothing):
        raise RefusedError(
            f"{act.identity.name}: {judged.verdict.reason}",
            hint=f"fleet device explain {act.identity.name}",
            code=judged.verdict.code,
        )
    await audit.append(tx, _entry(act, key_hash=key_hash))
    return judged.sequence


async def require_batch(tx: Transaction, domain: str, name: str, *, at: datetime) -> None:
    """Bring a batch into being, unless it is there; raises `RefusedError` if it takes no devices."""
    batch = await claims.load_batch(tx, domain, name)
    if batch is None:
        await claims.insert_batch(tx, claims.Batch(domain=domain, name=name, created_at=at))
    elif name == claims.PUBLIC_BATCH or batch.closed_at is not None:
        raise RefusedError(f"batch {name} of {domain} takes no devices", hint="choose another batch name")


def _record(registration: Registration, at: datetime) -> DeviceRecord:
    return DeviceRecord(
        identity=registration.identity,
        registered_at=at,
        kind=registration.kind,
        batch=registration.batch,
        hardware=registration.hardware,
        note=registration.note,
    )


def _registered(registration: Registration, enlisting: Enlisting) -> AuditEntry:
    details = (
        ("kind", registration.kind.value),
        ("batch", registration.batch or ""),
        ("hardware", registration.hardware),
        ("note", registration.note),
    )
    return AuditEntry(
        at=enlisting.at,
        action="device.registered",
        actor=enlisting.actor,
        domain=registration.identity.domain,
        device_id=registration.identity.device_id,
        details=tuple((name, value) for name, value in details if value),
    )


def _entry(act: Act, *, key_hash: str) -> AuditEntry:
    details = (("reason", act.reason), ("key_hash", key_hash))
    return AuditEntry(
        at=act.at,
        action=act.action,
        actor=act.actor,
        domain=act.identity.domain,
        device_id=act.identity.device_id,
        details=tuple((name, value) for name, value in details if value),
    )
