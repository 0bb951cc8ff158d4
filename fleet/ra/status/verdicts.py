"""Whether a certificate is good for this fleet, at any time of its past, and in one sentence why not.

What it says of now is what OCSP, the revocation lists and the brokers say. It trusts the certificate in hand
for nothing but its bytes: who signed it is computed, and all else stands on record.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from device_agent.wire.identity import serial_hex
from fleet.ca.certificate_files import read_certificates
from fleet.ca.issuer import fingerprint_of, issuer_id_of, issuer_named_by
from fleet.core.unreadable import UNREADABLE
from fleet.model import CertificateState, Device, Purpose
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.status.verdict_faults import (
    Case,
    Facts,
    Fault,
    Standing,
    Wanted,
    first_fault,
    name_of,
    praise,
    serial_of,
)
from fleet.store.certificates import (
    CertificateQuery,
    CertificateRecord,
    find_by_fingerprint,
    list_certificates,
    load_certificate,
)
from fleet.store.devices import load_device
from fleet.store.keys import blocked_because
from fleet.store.revocations import Revocation, holds_of, revocation_of

_NOT_SIGNED: tuple[type[Exception], ...] = (*UNREADABLE, InvalidSignature)
_LONGEST_CHAIN = 8
_MOST_AUTHORITIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a certificate was worth at a time, and one sentence why."""

    standing: Standing
    why: str
    at: datetime
    serial: str
    record: CertificateRecord | None = None

    @property
    def good(self) -> bool:
        return self.standing is Standing.GOOD


async def verify(context: Context, content: str, wanted: Wanted) -> Verdict:
    """Judge the first certificate of a file, as it stood at a time, or as it stands now.

    Raises:
        BadInputError: the file holds no certificate.
    """
    certificate = read_certificates(content.encode())[0]
    known = await _known_cas(context)
    moment = wanted.at or context.clock()
    serial = serial_hex(certificate.serial_number)
    fault, record_name = _why_not_ours(certificate, known), serial
    if fault is not None and fault.standing is Standing.OTHER_FLEET:
        record_name = await context.store.read(_adopted, fingerprint_of(certificate))
        fault = None if record_name else fault
    if fault is not None:
        return Verdict(standing=fault.standing, why=fault.why, at=moment, serial=serial)
    chain = tuple(_chain_of(certificate, known))
    case = Case(
        certificate=certificate,
        wanted=wanted,
        moment=moment,
        authority=context.authority,
        is_authority=certificate in known.values(),
        chain=chain,
        ended_cas=await context.store.read(_revocations_of, tuple(map(serial_of, chain))),
        facts=await context.store.read(_facts, record_name),
    )
    fault = first_fault(case)
    record = None if fault is not None and fault.standing is Standing.FORGED else case.facts.record
    if fault is not None:
        return Verdict(standing=fault.standing, why=fault.why, at=moment, serial=serial, record=record)
    return Verdict(standing=Standing.GOOD, why=praise(case), at=moment, serial=serial, record=record)


# --- whose it is ----------------------------------------------------------------------------------


async def _known_cas(context: Context) -> dict[str, x509.Certificate]:
    """Return every root and issuing CA that this fleet has ever had, by its hex subject key identifier."""
    query = CertificateQuery(purpose=Purpose.AUTHORITY, limit=_MOST_AUTHORITIES)
    records = await context.store.read(list_certificates, query)
    ders = [record.signed.der for record in records if record.signed is not None and record.signed.der]
    authority = context.authority
    found = [x509.load_der_x509_certificate(der) for der in ders]
    found += [root.certificate for root in authority.roots]
    found += [one for issuer in authority.issuers for one in (issuer.certificate, *issuer.chain)]
    return {issuer_id_of(one): one for one in found}


def _why_not_ours(certificate: x509.Certificate, known: Mapping[str, x509.Certificate]) -> Fault | None:
    """RFC 5280 6.1.3 (a)(1): the signature, by the CA that the certificate names by its key."""
    issuer = known.get(issuer_named_by(certificate))
    if issuer is None:
        claims = next((one for one in known.values() if one.subject == certificate.issuer), None)
        if claims is None:
            who = name_of(certificate.issuer)
            return Fault(Standing.OTHER_FLEET, f"{who} signed it, which is no CA of this fleet")
        issuer = claims
    try:
        certificate.verify_directly_issued_by(issuer)
    except _NOT_SIGNED:
        name = name_of(issuer.subject)
        why = f"it is forged: it names {name} as its issuer, whose key did not sign it"
        return Fault(Standing.FORGED, why)
    return None


def _chain_of(
    certificate: x509.Certificate, known: Mapping[str, x509.Certificate]
) -> Iterator[x509.Certificate]:
    """Yield the CAs above a certificate, up to one that nobody of ours has signed."""
    below = certificate
    for _ in range(_LONGEST_CHAIN):
        above = known.get(issuer_named_by(below))
        if above is None or above == below:
            return
        yield above
        below = above


async def _adopted(tx: Transaction, fingerprint: str) -> str:
    """Return the name of the record behind a leaf of an adopted fleet, which holds for these very bytes."""
    record = await find_by_fingerprint(tx, fingerprint)
    return "" if record is None else record.serial


# --- what is on record ----------------------------------------------------------------------------


async def _revocations_of(tx: Transaction, serials: tuple[str, ...]) -> dict[str, Revocation]:
    found = {serial: await revocation_of(tx, serial) for serial in serials}
    return {serial: revocation for serial, revocation in found.items() if revocation is not None}


async def _facts(tx: Transaction, serial: str) -> Facts:
    record = await load_certificate(tx, serial)
    if record is None:
        return Facts(record=None)
    device = None if record.identity is None else await load_device(tx, record.identity)
    return Facts(
        record=record,
        revocation=await revocation_of(tx, serial),
        holds=await holds_of(tx, serial),
        successor=_successor(record, device),
        device=device,
        blocked=await blocked_because(tx, record.life.key_hash),
    )


def _successor(record: CertificateRecord, device: Device | None) -> str:
    """Return the certificate that took the place of one: the first later one that was put to use."""
    unused = {CertificateState.VOID, CertificateState.DEAD, CertificateState.ISSUED}
    later = [] if device is None else [one for one in device.certificates if one.serial > record.serial]
    return next((one.serial for one in later if one.state not in unused), "")
