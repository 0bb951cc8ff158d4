"""Reads a certificate from whatever file it comes in: PEM, DER, PKCS#7; or says what the file is instead."""

from cryptography import x509

from fleet.ca.pkcs7 import PEM_LABEL, read_pkcs7
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError

LARGEST = 64 * 1024

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_OTHERS = {
    b"PRIVATE KEY-----": ("a private key", "name the certificate that belongs to it"),
    b"CERTIFICATE REQUEST-----": ("a request, which nobody has signed yet", "name the certificate itself"),
    b"X509 CRL-----": ("a revocation list", "name a certificate"),
    b"PUBLIC KEY-----": ("a public key", "name a certificate"),
}
_EXPORT = "fleet cert export makes one"
_SEQUENCE = b"\x30"
_PFX = b"\x02\x01\x03"
"""PKCS#12 begins with its version, 3 (RFC 7292 4)."""


def read_certificates(content: bytes) -> list[x509.Certificate]:
    """Return the certificates of a file in their order, at least one; each can be read to its last extension.

    Raises:
        BadInputError: the file holds something else, is damaged, or larger than 64 KiB.
    """
    if not content:
        raise BadInputError("the file is empty", hint=_EXPORT)
    if len(content) > LARGEST:
        raise BadInputError(f"the file is larger than {LARGEST} octets", hint="name one certificate")
    found = _read(content)
    try:
        for certificate in found:
            certificate.extensions  # noqa: B018 - parses them
            certificate.public_key()
    except UNREADABLE as error:
        raise BadInputError(
            "the certificate is damaged, or of a kind that is not used here", hint=_EXPORT
        ) from error
    return found


def _read(content: bytes) -> list[x509.Certificate]:
    if _CERTIFICATE in content:
        try:
            return x509.load_pem_x509_certificates(content[content.index(_CERTIFICATE) :])
        except UNREADABLE as error:
            raise BadInputError("the certificate is damaged", hint="take another copy of it") from error
    if PEM_LABEL in content:
        return _leaf_first(read_pkcs7(content))
    for label, (what, hint) in _OTHERS.items():
        if label in content:
            raise BadInputError(f"the file holds {what}, and no certificate", hint=hint)
    return _read_der(content)


def _read_der(content: bytes) -> list[x509.Certificate]:
    if not content.startswith(_SEQUENCE):
        raise BadInputError("the file holds no certificate", hint=_EXPORT)
    try:
        return [x509.load_der_x509_certificate(content)]
    except UNREADABLE:
        pass  # it may be PKCS#7
    if _PFX in content[2:8]:
        raise BadInputError(
            "the file is PKCS#12, and holds a key too",
            hint="openssl pkcs12 -nokeys takes the certificate out",
        )
    return _leaf_first(read_pkcs7(content))


def _leaf_first(found: list[x509.Certificate]) -> list[x509.Certificate]:
    """Put first what has signed nothing else: PKCS#7 holds a set, without an order (RFC 5652 5.1)."""
    issuers = {one.issuer for one in found if one.issuer != one.subject}
    return sorted(found, key=lambda one: one.subject in issuers or one.subject == one.issuer)
