"""What a certificate that passed TLS says about itself.

It reads; it does not trust: the allowlist decides whether these values mean anything.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from device_agent.wire.identity import serial_hex
from fleet.core.unreadable import UNREADABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A leaf, as the allowlist names it."""

    issuer: str
    serial: str
    fingerprint: str
    not_after: datetime


def read_shown(der: bytes) -> Shown | None:
    """Return what a leaf's DER says, or None if it cannot be read.

    The issuer is the authorityKeyIdentifier (RFC 5280 4.2.1.1): names of CAs may repeat, keys do not.
    """
    try:
        leaf = x509.load_der_x509_certificate(der)
        issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        return Shown(
            issuer=(issuer or b"").hex(),
            serial=serial_hex(leaf.serial_number),
            fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
            not_after=leaf.not_valid_after_utc,
        )
    except UNREADABLE:
        return None
