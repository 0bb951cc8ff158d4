"""A certification authority at work: lint, then sign what was linted, then verify what was signed.

Signs approved templates alone; it never sees a request, and what the lint refuses never meets the key.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import serial_hex
from fleet.ca import der, lint
from fleet.ca.building import builder_of, key_identifier
from fleet.ca.signers import PrivateKey, Signer, hash_of, rehearsal_key, sign_instead
from fleet.core.authority import AuthorityState
from fleet.core.goodkey import CertifiedKey, certified_key, key_hash
from fleet.core.partition import PARTITIONS
from fleet.core.profile import IssuerFacts, Template
from fleet.errors import FleetError
from fleet.model import Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A signed certificate, and the facts that records are kept by."""

    der: bytes
    serial: str
    issuer_id: str
    fingerprint: str
    """Hex SHA-256 of the DER."""
    key_hash: str
    anchor: str
    """Hex SHA-256 of the root that its chain ends in."""
    not_before: datetime
    not_after: datetime

    @property
    def pem(self) -> str:
        return pem_of(self.der)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A root or an issuing CA: its certificate, and a signer for its key."""

    certificate: x509.Certificate
    signer: Signer
    purpose: Purpose
    """Of the certificates that it signs; a root signs authorities."""
    fleet: str
    domain: str = ""
    anchor: str
    """Hex SHA-256 of the root's DER."""
    chain: tuple[x509.Certificate, ...] = ()
    """The CAs between it and the root, the nearest first: those of a company above ours."""
    station: str = ""
    """Whose CA it is, where a station signs with it off line."""
    state: AuthorityState = AuthorityState.ACTIVE
    rehearsal: PrivateKey
    """Signs what the lint looks at; worth nothing, and never leaves this process."""

    @property
    def issuer_id(self) -> str:
        """Hex subject key identifier, as its certificates name it (RFC 5280 4.2.1.1)."""
        return issuer_id_of(self.certificate)

    @property
    def public_key(self) -> CertifiedKey:
        """Of the certificate, whatever the signer says."""
        return certified_key(self.certificate.public_key())

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def chain_pem(self) -> str:
        """From the leaf's issuer up, without the root."""
        return pem_bundle([self.certificate, *self.chain])

    def facts(self, status_url: str) -> IssuerFacts:
        """Return what a template must know; `status_url` is plain http, host and port."""
        return IssuerFacts(
            issuer_id=self.issuer_id,
            not_after=self.not_after,
            status_url=status_url,
            # A root's key is off line, and it delegates to nobody: its CRL speaks for it.
            has_ocsp=self.purpose is not Purpose.AUTHORITY,
            partitions=0 if self.purpose is Purpose.AUTHORITY else PARTITIONS,
        )

    def issue(self, template: Template, *, serial: str) -> IssuedCertificate:
        """Return the signed certificate of an approved template; `serial` is 32 hex, recorded before.

        Raises:
            FleetError: the lint found a fault and nothing was signed, or the signer failed.
        """
        self._require_own(template)
        case = lint.Case(
            certificate=builder_of(template, serial=serial, issuer=self.certificate).sign(
                self.rehearsal, hash_of(self.signer.public_key)
            ),
            template=template,
            serial=serial,
            issuer=self.certificate,
            fleet=self.fleet,
            domain=self.domain,
            station=self.station,
        )
        lint.require_clean(case)
        certificate = _sign_linted(case.certificate, self.signer, self.public_key)
        return issued_of(certificate, issuer_id=self.issuer_id, anchor=self.anchor)

    def _require_own(self, template: Template) -> None:
        # A CA signs for its one purpose, and for the OCSP responder and time key that speak for it.
        is_signer = template.purpose is Purpose.SIGNER and self.purpose is not Purpose.AUTHORITY
        is_own = template.purpose is self.purpose or is_signer
        if not is_own or template.issuer is None or template.issuer.issuer_id != self.issuer_id:
            raise FleetError(
                f"a {template.purpose} certificate is not for the {self.purpose} CA {self.issuer_id} to sign",
                hint="this is a defect of the server: report it with this line",
            )


def issued_of(certificate: x509.Certificate, *, issuer_id: str, anchor: str) -> IssuedCertificate:
    """Return a certificate of ours with the facts that records are kept by."""
    encoded = certificate.public_bytes(Encoding.DER)
    return IssuedCertificate(
        der=encoded,
        serial=serial_hex(certificate.serial_number),
        issuer_id=issuer_id,
        fingerprint=hashlib.sha256(encoded).hexdigest(),
        key_hash=key_hash(certified_key(certificate.public_key())),
        anchor=anchor,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def self_sign(
    template: Template, signer: Signer, *, serial: str, fleet: str, domain: str
) -> x509.Certificate:
    """Return the certificate of a root, signed by its own key.

    Raises:
        FleetError: the lint found a fault and nothing was signed, or the signer failed.
    """
    rehearsal = rehearsal_key(signer.public_key)
    certificate = builder_of(template, serial=serial, issuer=None).sign(rehearsal, hash_of(signer.public_key))
    lint.require_clean(
        lint.Case(
            certificate=certificate, template=template, serial=serial, issuer=None, fleet=fleet, domain=domain
        )
    )
    return _sign_linted(certificate, signer, template.public_key)


def _sign_linted(linted: x509.Certificate, signer: Signer, public_key: CertifiedKey) -> x509.Certificate:
    encoded = sign_instead(linted.public_bytes(Encoding.DER), signer, public_key=public_key)
    certificate = x509.load_der_x509_certificate(encoded)
    if certificate.tbs_certificate_bytes != linted.tbs_certificate_bytes:
        raise FleetError("what was signed is not what was linted", hint="this is a defect: report it")
    return certificate


def issuer_id_of(certificate: x509.Certificate) -> str:
    """Return the hex subject key identifier of a CA's certificate."""
    return key_identifier(certificate).digest.hex()


def issuer_named_by(certificate: x509.Certificate) -> str:
    """Return the key identifier of the CA that a certificate names; empty where it names none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return issuer_id_of(certificate) if certificate.issuer == certificate.subject else ""
    return (found.key_identifier or b"").hex()


def key_id_of(public_key: CertifiedKey) -> str:
    """Return the hex subject key identifier that a key has in certificates of ours (RFC 5280 4.2.1.2 (1))."""
    return x509.SubjectKeyIdentifier.from_public_key(public_key).digest.hex()


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Return the hex SHA-256 of a certificate's DER."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def pem_of(encoded: bytes) -> str:
    """Return a certificate's PEM."""
    return der.pem("CERTIFICATE", encoded).decode()


def pem_bundle(certificates: Sequence[x509.Certificate]) -> str:
    """Return several certificates in one PEM file, in their order."""
    return "".join(pem_of(certificate.public_bytes(Encoding.DER)) for certificate in certificates)
