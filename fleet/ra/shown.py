"""What a TLS connection proves about who is at its other end: one certificate, named exactly.

It never says what that certificate may do; only its row in the store does.
"""

import hashlib
from dataclasses import dataclass, field

from cryptography import x509

from device_agent.wire.identity import serial_hex
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCertificate:
    """All three are compared with the store: a serial alone belongs to nobody."""

    issuer: str
    """Hex subject key identifier of the issuing CA (RFC 5280 4.2.1.1)."""
    serial: str
    fingerprint: str = ""
    """SHA-256 of the DER, hex; empty where the broker's guard has compared it already."""
    der: bytes = field(default=b"", repr=False, compare=False)
    """Its bytes, where the channel has seen them."""


def shown_certificate(der: bytes) -> ShownCertificate:
    """Name a certificate by issuer, serial and fingerprint.

    Raises:
        BadInputError: it is no certificate, or none that says who issued it.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except UNREADABLE as error:
        raise BadInputError("the client certificate cannot be read, or names no issuing CA") from error
    if authority.key_identifier is None:
        raise BadInputError("the client certificate names no issuing CA (RFC 5280 4.2.1.1)")
    return ShownCertificate(
        issuer=authority.key_identifier.hex(),
        serial=serial_hex(certificate.serial_number),
        fingerprint=hashlib.sha256(der).hexdigest(),
        der=der,
    )
