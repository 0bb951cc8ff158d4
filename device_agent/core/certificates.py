"""Reads certificates that somebody else sent: PEM bundles into DER, and what a leaf says of itself.

Reading is not trusting: nothing here verifies a signature or a date, `acceptance` does.
"""

import base64
import hashlib
import re
import textwrap
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.wire.identity import serial_hex
from device_agent.wire.problems import MalformedMessageError

MAX_CERTIFICATE_BYTES = 8192
"""A leaf of ours has about 700 octets; some vendors' issuing CAs with RSA 4096 have 2,500."""

_BLOCK = re.compile(r"\s*-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----\s*")

UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    UnsupportedAlgorithm,
    InternalError,  # of releases before 42, over PKCS#7 that is damaged
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""All that the library raises over a certificate that it cannot read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What a leaf says of itself. `serial` is 32 lower-case hex, `fingerprint` SHA-256 of the DER."""

    serial: str
    fingerprint: bytes
    key_hash: str
    not_before: datetime
    not_after: datetime


def read_bundle(pem: str, *, most: int) -> tuple[bytes, ...]:
    """Return the certificates of a PEM bundle as DER, in order; 1 to `most` blocks and nothing between.

    Raises:
        MalformedMessageError: the text is anything else, or a block is too large.
    """
    found: list[bytes] = []
    at = 0
    while at < len(pem):
        block = _BLOCK.match(pem, at)
        if block is None or len(found) == most:
            raise MalformedMessageError(f"PEM must hold 1 to {most} certificates and nothing else (RFC 7468)")
        found.append(_der(block[1]))
        at = block.end()
    if not found:
        raise MalformedMessageError("PEM holds no certificate")
    return tuple(found)


def bundle(ders: Iterable[bytes]) -> str:
    """Return certificates as one PEM bundle (RFC 7468 5)."""
    return "".join(_pem(der) for der in ders)


def anchor_id(der: bytes) -> str:
    """Return the name of a trust anchor: hex SHA-256 of its DER."""
    return hashlib.sha256(der).hexdigest()


def load(der: bytes) -> x509.Certificate:
    """Return a certificate.

    Raises:
        MalformedMessageError: the bytes are none, or more than a certificate may have.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise MalformedMessageError(f"a certificate must not exceed {MAX_CERTIFICATE_BYTES} octets")
    try:
        with warnings.catch_warnings():  # what it reads, but should not, such as a negative serial number
            warnings.simplefilter("error")
            return x509.load_der_x509_certificate(der)
    except (*UNREADABLE, Warning) as error:
        raise MalformedMessageError("a certificate cannot be read (RFC 5280 4.1)") from error


def public_key_der(certificate: x509.Certificate) -> bytes:
    """Return the SubjectPublicKeyInfo.

    Raises:
        MalformedMessageError: the key is of a kind that nobody knows.
    """
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE as error:
        raise MalformedMessageError("the key of a certificate cannot be read") from error


def read_leaf(der: bytes) -> Leaf:
    """Return what a leaf says of itself; raises as `load` does."""
    certificate = load(der)
    begins, ends = lifetime(certificate)
    return Leaf(
        serial=serial_hex(certificate.serial_number),
        fingerprint=hashlib.sha256(der).digest(),
        key_hash=hashlib.sha256(public_key_der(certificate)).hexdigest(),
        not_before=begins,
        not_after=ends,
    )


def lifetime(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """Return when a certificate begins and when it ends, UTC."""
    if hasattr(certificate, "not_valid_before_utc"):  # cryptography 42
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate.not_valid_before.replace(tzinfo=UTC), certificate.not_valid_after.replace(tzinfo=UTC)


def _der(body: str) -> bytes:
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except ValueError as error:  # binascii.Error, or no ASCII at all
        raise MalformedMessageError("a PEM block is not base64") from error
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise MalformedMessageError(f"a certificate must not exceed {MAX_CERTIFICATE_BYTES} octets")
    return der


def _pem(der: bytes) -> str:
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"
