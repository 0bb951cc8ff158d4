"""Certificates as an operator sees them: lists, one with its record, its PEM, and whether it is good.

It only reads. What it says of a certificate is what OCSP, the CRL and the brokers say.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import serial_hex
from fleet.ca.hierarchy import Authority
from fleet.ca.issuer import fingerprint_of, pem_of
from fleet.errors import BadInputError, NotFoundError
from fleet.model import RevocationReason
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store.certificates import (
    CertificateQuery,
    CertificateRecord,
    find_by_fingerprint,
    list_certificates,
    load_certificate,
)
from fleet.store.devices import load_device
from fleet.store.revocations import revocation_of

_MAX_PEM = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """When and why a certificate was taken back."""

    at: datetime
    reason: RevocationReason


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """A certificate's record, and how it ended, if it did."""

    record: CertificateRecord
    ending: Ending | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a certificate is good at a time, and one sentence why."""

    good: bool
    why: str
    at: datetime
    serial: str
    record: CertificateRecord | None = None


async def search(context: Context, query: CertificateQuery) -> tuple[CertificateRecord, ...]:
    """Return a page of certificates, by serial."""
    return await context.store.read(list_certificates, query)


async def show(context: Context, serial: str) -> CertificateView:
    """Return one certificate. Raises `NotFoundError`."""
    view = await context.store.read(_view, serial)
    if view is None:
        raise NotFoundError(f"there is no certificate {serial}", hint="fleet cert list")
    return view


async def export(context: Context, serial: str) -> str:
    """Return a certificate and its issuing CAs, PEM, leaf first. Raises `NotFoundError`."""
    signed = (await show(context, serial)).record.signed
    if signed is None:
        raise NotFoundError(f"certificate {serial} was intended and never signed", hint="fleet cert show it")
    return pem_of(signed.der) + _chain(context.authority, signed.issuer)


async def verify(context: Context, pem: str, *, at: datetime | None = None) -> Verdict:
    """Judge a certificate as it stood at a time, or as it stands now.

    Raises:
        BadInputError: it is not one certificate in PEM.
    """
    certificate = _read(pem)
    moment = at or context.clock()
    serial = serial_hex(certificate.serial_number)
    why_not = _why_not_ours(context.authority, certificate) or _why_not_in_time(certificate, moment)
    found = await context.store.read(_standing, fingerprint_of(certificate))
    record = None if found is None else found.view.record
    if why_not is None:
        why_not = "it is not on record" if found is None else _why_ended(found, moment, is_now=at is None)
    return Verdict(
        good=why_not is None,
        why=why_not or "issued by this fleet, on record, in its time, not revoked",
        at=moment,
        serial=serial,
        record=record,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    view: CertificateView
    suspended: bool


async def _view(tx: Transaction, serial: str) -> CertificateView | None:
    record = await load_certificate(tx, serial)
    if record is None:
        return None
    found = await revocation_of(tx, serial)
    # A hold is no end: it is told as what it is, the suspension of a device.
    ending = None if found is None or found.is_hold else Ending(at=found.revoked_at, reason=found.reason)
    return CertificateView(record=record, ending=ending)


async def _standing(tx: Transaction, fingerprint: str) -> _Standing | None:
    record = await find_by_fingerprint(tx, fingerprint)
    view = None if record is None else await _view(tx, record.serial)
    if record is None or view is None:
        return None
    device = None if record.identity is None else await load_device(tx, record.identity)
    return _Standing(view=view, suspended=device is not None and device.suspended)


def _read(pem: str) -> x509.Certificate:
    if len(pem) > _MAX_PEM:
        raise BadInputError(
            f"the file is larger than {_MAX_PEM} characters", hint="name a certificate in PEM"
        )
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
        found[0].extensions  # noqa: B018 - parses them: what cannot be read is no certificate
    except ValueError as error:
        raise BadInputError(
            "the file holds no certificate in PEM", hint="fleet cert export makes one"
        ) from error
    return found[0]


def _why_not_ours(authority: Authority, certificate: x509.Certificate) -> str | None:
    """RFC 5280 6.1.3 (a): the signature, by the CA that the certificate names by its key."""
    try:
        named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        issuer = authority.certificate((named.key_identifier or b"").hex())
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, NotFoundError):
        return "it was not issued by this fleet"
    except (ValueError, TypeError, InvalidSignature):
        return "its signature is not that of the issuing CA that it names"
    return None


def _why_not_in_time(certificate: x509.Certificate, moment: datetime) -> str | None:
    if moment < certificate.not_valid_before_utc:
        return f"it is not valid before {_text(certificate.not_valid_before_utc)}"
    if moment > certificate.not_valid_after_utc:
        return f"it expired on {_text(certificate.not_valid_after_utc)}"
    return None


def _why_ended(found: _Standing, moment: datetime, *, is_now: bool) -> str | None:
    ending = found.view.ending
    if ending is not None and ending.at <= moment:
        word = "superseded" if ending.reason is RevocationReason.SUPERSEDED else "revoked"
        return f"it was {word} on {_text(ending.at)} ({ending.reason})"
    return "its device is suspended" if is_now and found.suspended else None


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _chain(authority: Authority, issuer_id: str) -> str:
    certificate = authority.certificate(issuer_id)
    return certificate.public_bytes(Encoding.PEM).decode()
