"""One leaf of an adopted fleet: listed, and admitted as soon as enough is known of it.

It becomes a record under a name that sorts before every serial of ours, so that the core judges its life and
its renewal as of any other. Brokers and connections know it by what it says of itself.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509

from device_agent.wire.identity import Identity
from fleet.core import trace
from fleet.core.serial import ADOPTED
from fleet.errors import BadInputError, RefusedError
from fleet.model import (
    Assurance,
    AuditEntry,
    Certificate,
    CertificateState,
    ClientKind,
    Device,
    Purpose,
)
from fleet.ports import Transaction
from fleet.ra.adopted.foreign import KnownLeaf, is_listed_in, known_leaf, read_authorities
from fleet.ra.context import Context
from fleet.ra.devices import require_in_service
from fleet.ra.shown import ShownCertificate
from fleet.store import adopted, audit
from fleet.store.adopted import AdoptedLeaf, Shown
from fleet.store.certificates import CertificateRecord, SignedCertificate, insert_certificate
from fleet.store.devices import DeviceRecord, insert_device, load_device, set_assurance

_RECORD_DIGITS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A leaf that is to be listed; admitted, where it is known well enough."""

    leaf: AdoptedLeaf
    known: KnownLeaf | None
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What one commit made of it."""

    was_known: bool = False
    sequence: int | None = None


def record_of(adoption: str, identity: Identity) -> str:
    """Return the name of the record of a device's leaf in an adoption; there is one of each."""
    digest = hashlib.sha256(f"{adoption}\n{identity.name}".encode()).hexdigest()
    return ADOPTED + digest[:_RECORD_DIGITS]


async def meet(context: Context, shown: ShownCertificate) -> CertificateRecord | None:
    """Admit a listed leaf that shows itself for the first time; None where it is none.

    TLS, or a signature, has proved that whoever shows it has its key. That the adopted CA signed these very
    bytes is proved here: a listed serial number alone is worth nothing.
    """
    if not shown.der:
        return None
    asked = Shown(issuer=shown.issuer, serial=shown.serial, fingerprint=shown.fingerprint)
    for leaf in await context.store.read(adopted.waiting_for, asked):
        known = await _known(context, leaf, shown)
        if known is None:
            continue
        case = Case(leaf=leaf, known=known, actor=f"device:{leaf.identity.name}", at=context.clock())
        admitted = await context.store.write(admit, case)
        if admitted.sequence is not None:
            await context.broker.reach(admitted.sequence)
        return await context.store.read(adopted.load_shown, asked)
    return None


async def admit(tx: Transaction, case: Case) -> Admitted:
    """List a leaf, and register its device where it is new; what is listed already stays as it is.

    Raises:
        RefusedError: the device has a certificate of ours, or another one is listed for it.
    """
    leaf, known = case.leaf, case.known
    listed = await adopted.leaves_of_device(tx, leaf.identity)
    if any(one.record == leaf.record and (one.admitted_at or known is None) for one in listed):
        return Admitted(was_known=True)
    if any(one.record != leaf.record for one in listed):
        raise RefusedError(
            f"another certificate is listed for {leaf.identity.name}", hint="fleet adoption list"
        )
    device = await _free_device(tx, case)
    if known is None:
        await adopted.put_leaf(tx, leaf)
        await audit.append(tx, _entry(case, "adoption.listed", device, device))
        return Admitted()
    complete = replace(
        leaf,
        issuer=known.issuer,
        serial=known.serial,
        fingerprint=known.fingerprint,
        admitted_at=case.at,
    )
    await adopted.put_leaf(tx, complete)
    life = _life(leaf.record, known)
    sequence = await insert_certificate(tx, _certificate(case, known, life))
    await adopted.make_current(tx, leaf.identity, leaf.record)
    after = replace(device, certificates=(*device.certificates, life), current=leaf.record)
    await audit.append(tx, _entry(case, "certificate.adopted", device, after))
    return Admitted(sequence=sequence)


async def _known(context: Context, leaf: AdoptedLeaf, shown: ShownCertificate) -> KnownLeaf | None:
    adoption = await context.store.read(adopted.load_adoption, leaf.adoption)
    if adoption is None:
        return None
    try:
        certificate = x509.load_der_x509_certificate(shown.der)
        known = known_leaf(certificate, read_authorities(adoption.authorities))
    except (BadInputError, ValueError):
        return None
    fits = leaf.serial in {"", known.serial} and leaf.fingerprint in {"", known.fingerprint}
    if not fits or is_listed_in(adoption.crls, certificate):
        return None
    return known


async def _free_device(tx: Transaction, case: Case) -> Device:
    """Return the device of a leaf, without a certificate of ours; it is registered where it is new."""
    identity = case.leaf.identity
    if await load_device(tx, identity) is None:
        note = f"adopted with {case.leaf.adoption}"
        record = DeviceRecord(identity=identity, registered_at=case.at, kind=ClientKind.PLAIN, note=note)
        await insert_device(tx, record)
        # An operator vouches for it by the list, as by an approval.
        await set_assurance(tx, identity, Assurance.APPROVED)
    device = await require_in_service(tx, identity)
    if device.revoked or device.certificates:
        raise RefusedError(
            f"{identity.name} is revoked, or has a certificate already",
            hint=f"fleet device show {identity.device_id} --domain {identity.domain}",
        )
    return device


def _life(record: str, known: KnownLeaf) -> Certificate:
    return Certificate(
        serial=record, key_hash=known.key_hash, state=CertificateState.ACTIVE, anchor=known.anchor
    )


def _certificate(case: Case, known: KnownLeaf, life: Certificate) -> CertificateRecord:
    identity = case.leaf.identity
    return CertificateRecord(
        life=life,
        purpose=Purpose.DEVICE,
        name=identity.name,
        issuer=known.issuer,
        created_at=case.at,
        changed_at=case.at,
        domain=identity.domain,
        device_id=identity.device_id,
        signed=SignedCertificate(
            serial=life.serial,
            issuer=known.issuer,
            fingerprint=known.fingerprint,
            not_before=known.not_before,
            not_after=known.not_after,
            der=known.der,
            profile="adopted",
        ),
    )


def _entry(case: Case, action: str, before: Device, after: Device) -> AuditEntry:
    leaf, known = case.leaf, case.known
    details = [("adoption", leaf.adoption)]
    if known is not None:
        details += [
            ("issuer", known.issuer),
            ("shown_serial", known.serial),
            ("fingerprint", known.fingerprint),
            (trace.DETAIL, trace.changes(before, after, origins={})),
        ]
    return AuditEntry(
        at=case.at,
        action=action,
        actor=case.actor,
        domain=leaf.identity.domain,
        device_id=leaf.identity.device_id,
        serial=leaf.record,
        details=tuple(details),
    )
