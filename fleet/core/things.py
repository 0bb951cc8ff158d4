"""By what a manufacturer's list knows a device: a key, a certificate, or the endorsement key of a TPM."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class ThingKind(StrEnum):
    """What kind of thing a device comes with; stored by name."""

    KEY = "key"
    CERTIFICATE = "certificate"
    SERIAL = "serial"
    EK = "ek"


class NameRule(StrEnum):
    """Where a manufacturer's certificate says which device it is in."""

    SERIAL_NUMBER = "serialNumber"
    """The subject's attribute of that name, as text."""
    HARDWARE_MODULE = "hardwareModuleName"
    """The serial number in the subjectAltName, as lower-case hex."""
    COMMON_NAME = "commonName"
    LIST = "list"
    """Nowhere: a list names the certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing, by what is on file of it: a SHA-256 in hex, or for a serial `<manufacturer>:<hex>`."""

    kind: ThingKind
    value: str


def key_thing(public_key_der: bytes, *, kind: ThingKind = ThingKind.KEY) -> Thing:
    """Return a key, or an endorsement key, by its SubjectPublicKeyInfo (RFC 5280 4.1.2.7)."""
    return Thing(kind=kind, value=hashlib.sha256(public_key_der).hexdigest())


def certificate_thing(certificate: x509.Certificate) -> Thing:
    """Return a certificate by all of its bytes."""
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    return Thing(kind=ThingKind.CERTIFICATE, value=digest)


def serial_thing(manufacturer: str, certificate: x509.Certificate) -> Thing:
    """Return a certificate by its serial number, which only its manufacturer's are told apart by."""
    return Thing(kind=ThingKind.SERIAL, value=f"{manufacturer}:{certificate.serial_number:x}")


def public_key_der(certificate: x509.Certificate) -> bytes:
    """Return the SubjectPublicKeyInfo of a certificate, DER."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
