"""Certificates for ourselves: servers, services, operators, stations, signers, claim batches.

Intent first, then the signature, then the result, as for a device. Who may have one is decided by the caller;
the key is made here, or by whoever sent the public half of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from fleet.ca.hierarchy import Authority
from fleet.ca.issuer import IssuedCertificate, Issuer
from fleet.ca.signers import ClassicPrivateKey, make_key, plain_pem
from fleet.core.goodkey import CertifiedKey, key_hash
from fleet.core.profile import DEFAULT_PROFILES, Applicant, Profile, own_applicant, server_applicant
from fleet.core.serial import SERIAL_RANDOMNESS, new_serial
from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.home import KeyPairFiles
from fleet.model import AuditEntry, Certificate, CertificateState, Purpose, RevocationReason
from fleet.ports import Store, Transaction
from fleet.ra.judging import signed_details
from fleet.ra.keys import require_unblocked
from fleet.store import audit
from fleet.store.certificates import (
    CertificateRecord,
    SignedCertificate,
    end_certificate,
    insert_certificate,
    sign_certificate,
    store_signed,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRequest:
    """Who is to have a certificate of which purpose; `hosts` are a server's names and addresses."""

    purpose: Purpose
    name: str
    actor: str
    """Who asks for it, as the audit trail names him."""
    domain: str = ""
    batch: str | None = None
    hosts: tuple[str, ...] = ()
    lifetime: timedelta | None = None
    """At most the profile's, which it is by default."""
    parent: str | None = None
    """The serial of the certificate that it is to take the place of."""
    revoked_at_birth: bool = False
    """A canary: never admitted, and on the CRL from its first moment."""

    @property
    def applicant_name(self) -> str:
        return self.name if self.batch is None else self.batch


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedOwn:
    """What was issued for a key of somebody's own."""

    issued: IssuedCertificate
    chain_pem: str
    """The issuing CA's certificate."""
    sequence: int | None
    """The allowlist's new sequence number, where it changed: brokers must reach it."""

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.issued.der)

    @property
    def certificate_pem(self) -> str:
        """The certificate, then its chain, as TLS sends them."""
        return self.issued.pem + self.chain_pem


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCertificate(CertifiedOwn):
    """What was issued, with the key that was made for it."""

    key: ClassicPrivateKey

    @property
    def key_pem(self) -> bytes:
        """PKCS#8 without encryption; write it 0600."""
        return plain_pem(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What issuing needs from outside."""

    store: Store
    authority: Authority
    randomness: Callable[[int], bytes]
    status_url: str
    """Plain http, host and port, where status is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Who signs what, for whom."""

    request: OwnRequest
    issuer: Issuer
    profile: Profile
    applicant: Applicant
    public_key: CertifiedKey


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    request: OwnRequest
    signed: SignedCertificate
    at: datetime


async def issue_own(surroundings: Surroundings, request: OwnRequest, *, now: datetime) -> OwnCertificate:
    """Make a key and issue a certificate for it.

    Raises:
        NotFoundError: there is no issuing CA for that purpose.
        FleetError: the lint, the signer or the store failed; an intent without a result stays behind.
    """
    key = make_key()
    found = await certify_own(surroundings, request, key.public_key(), now=now)
    return OwnCertificate(issued=found.issued, chain_pem=found.chain_pem, sequence=found.sequence, key=key)


async def certify_own(
    surroundings: Surroundings, request: OwnRequest, public_key: CertifiedKey, *, now: datetime
) -> CertifiedOwn:
    """Issue a certificate for a key that stays where it is; raises as `issue_own`."""
    authority = surroundings.authority
    order = Order(
        request=request,
        issuer=authority.issuer(request.purpose, request.domain if request.purpose is Purpose.DEVICE else ""),
        profile=DEFAULT_PROFILES[request.purpose],
        applicant=_applicant(request, authority.fleet),
        public_key=public_key,
    )
    return await carry_out(surroundings, order, now=now)


async def carry_out(surroundings: Surroundings, order: Order, *, now: datetime) -> CertifiedOwn:
    """Record the intent, sign, and record the result; raises as `issue_own`."""
    request, issuer = order.request, order.issuer
    template = order.profile.template(
        order.applicant,
        order.public_key,
        now=now,
        issuer=issuer.facts(surroundings.status_url),
        lifetime=request.lifetime,
    )
    intent = _intent_of(surroundings, order, now=now)
    await surroundings.store.write(_record_intent, _Intent(record=intent, actor=request.actor))
    issued = issuer.issue(template, serial=intent.serial)
    result = _Result(request=request, signed=signed_record(issued, profile=order.profile.name), at=now)
    sequence = await surroundings.store.write(_record_result, result)
    chain_pem = issuer.chain_pem
    if request.purpose is Purpose.SERVER:
        # Devices that hold only the root before this one's find their way by its certificate for the new key.
        chain_pem += surroundings.authority.cross_pem(issuer)
    return CertifiedOwn(issued=issued, chain_pem=chain_pem, sequence=sequence)


def _intent_of(surroundings: Surroundings, order: Order, *, now: datetime) -> CertificateRecord:
    request, issuer = order.request, order.issuer
    life = Certificate(
        serial=new_serial(
            now=now, randomness=surroundings.randomness(SERIAL_RANDOMNESS), above=request.parent
        ),
        key_hash=key_hash(order.public_key),
        state=CertificateState.VOID,
        anchor=issuer.anchor,
        parent=request.parent,
    )
    return CertificateRecord(
        life=life,
        purpose=request.purpose,
        name=request.name,
        domain=request.domain,
        batch=request.batch,
        issuer=issuer.issuer_id,
        created_at=now,
        changed_at=now,
    )


def write_pair(files: KeyPairFiles, own: OwnCertificate) -> None:
    """Write key (0600) and certificate with chain (0644). Raises `FleetError`."""
    make_folder(files.key.parent)
    write_file(files.key, own.key_pem)
    write_file(files.certificate, own.certificate_pem.encode(), mode=PUBLIC_MODE)


def signed_record(issued: IssuedCertificate, *, profile: str) -> SignedCertificate:
    """Return what the store keeps of a signed certificate."""
    return SignedCertificate(
        serial=issued.serial,
        issuer=issued.issuer_id,
        fingerprint=issued.fingerprint,
        not_before=issued.not_before,
        not_after=issued.not_after,
        der=issued.der,
        profile=profile,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Intent:
    record: CertificateRecord
    actor: str


async def _record_intent(tx: Transaction, intent: _Intent) -> None:
    record = intent.record
    await require_unblocked(tx, record.life.key_hash)
    await insert_certificate(tx, record)
    await audit.append(
        tx,
        AuditEntry(
            at=record.created_at,
            action="certificate.intended",
            actor=intent.actor,
            domain=record.domain,
            serial=record.serial,
            details=_intent_details(record),
        ),
    )


def _intent_details(record: CertificateRecord) -> tuple[tuple[str, str], ...]:
    """Return all that is on record of an intent, so that the trail can bring an older database up to date."""
    life = record.life
    told = (
        ("purpose", record.purpose.value),
        ("name", record.name),
        ("key", life.key_hash),
        ("issuer", record.issuer),
        ("anchor", life.anchor),
        ("parent", life.parent or ""),
        ("batch", record.batch or ""),
    )
    return tuple((name, value) for name, value in told if value)


async def _record_result(tx: Transaction, result: _Result) -> int | None:
    request, signed, at = result.request, result.signed, result.at
    entry = AuditEntry(
        at=at,
        action="certificate.issued",
        actor=request.actor,
        domain=request.domain,
        serial=signed.serial,
        details=(("purpose", request.purpose), ("name", request.name), *signed_details(signed)),
    )
    await audit.append(tx, entry)
    if not request.revoked_at_birth:
        return await sign_certificate(tx, signed, state=CertificateState.ACTIVE, at=at)
    await store_signed(tx, signed)
    reason = RevocationReason.CESSATION_OF_OPERATION
    details = (("name", request.name), ("reason_code", reason.value))
    await audit.append(tx, replace(entry, action="certificate.revoked", details=details))
    return await end_certificate(tx, signed.serial, state=CertificateState.REVOKED, reason=reason, at=at)


def _applicant(request: OwnRequest, fleet: str) -> Applicant:
    if request.purpose is Purpose.SERVER:
        return server_applicant(request.hosts)
    # Batches are named within their domain, all others within the fleet.
    domain = request.domain if request.purpose is Purpose.CLAIM else ""
    return own_applicant(request.applicant_name, purpose=request.purpose, fleet=fleet, domain=domain)
