"""Certificates as an operator sees them: lists, one with its record, its PEM and its chain.

It only reads. What it says of a certificate's end is what OCSP and the revocation lists say.
"""

from dataclasses import dataclass
from datetime import datetime

from fleet.ca.issuer import pem_bundle, pem_of
from fleet.errors import NotFoundError
from fleet.model import RevocationReason
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store.certificates import (
    CertificateQuery,
    CertificateRecord,
    SignedCertificate,
    list_certificates,
    load_certificate,
)
from fleet.store.revocations import revocation_of


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


async def search(context: Context, query: CertificateQuery) -> tuple[CertificateRecord, ...]:
    """Return a page of certificates, by serial."""
    return await context.store.search(list_certificates, query)


async def show(context: Context, serial: str) -> CertificateView:
    """Return one certificate. Raises `NotFoundError`."""
    view = await context.store.read(_view, serial)
    if view is None:
        raise NotFoundError(f"there is no certificate {serial}", hint="fleet cert list")
    return view


async def export(context: Context, serial: str) -> str:
    """Return a certificate and its issuing CAs, PEM, as TLS sends them. Raises `NotFoundError`."""
    signed = await _signed(context, serial)
    leaf, above = pem_of(signed.der), _above(context, signed.issuer)
    return leaf if above == leaf else leaf + above


async def export_chain(context: Context, serial: str) -> str:
    """Return a certificate, its issuing CAs and its trust anchor, PEM. Raises `NotFoundError`."""
    record = (await show(context, serial)).record
    leaf = await export(context, serial)
    anchors = [root.certificate for root in context.authority.roots if root.anchor == record.life.anchor]
    return leaf + "".join(pem for pem in (pem_bundle([one]) for one in anchors) if pem not in leaf)


async def _signed(context: Context, serial: str) -> SignedCertificate:
    signed = (await show(context, serial)).record.signed
    if signed is None:
        raise NotFoundError(f"certificate {serial} was intended and never signed", hint="fleet cert show it")
    if not signed.der:
        raise NotFoundError(
            f"certificate {serial} is known by the audit trail alone, which does not hold it",
            hint="its holder has it: fleet cert verify FILE knows it again",
        )
    return signed


def _above(context: Context, issuer_id: str) -> str:
    """Return the CAs between a certificate and its root, PEM; the root itself for what it has signed."""
    authority = context.authority
    for issuer in authority.issuers:
        if issuer.issuer_id == issuer_id:
            return issuer.chain_pem
    return pem_bundle([authority.certificate(issuer_id)])


async def _view(tx: Transaction, serial: str) -> CertificateView | None:
    record = await load_certificate(tx, serial)
    if record is None:
        return None
    found = await revocation_of(tx, serial)
    # A hold is no end: it is told as what it is, the suspension of a device.
    ending = None if found is None or found.is_hold else Ending(at=found.revoked_at, reason=found.reason)
    return CertificateView(record=record, ending=ending)
