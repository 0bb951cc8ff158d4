"""Certificates in one PKCS#7 file without a signature: "certs-only" (RFC 5652, RFC 8551 3.8), `.p7b`."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import (
    load_der_pkcs7_certificates,
    load_pem_pkcs7_certificates,
    serialize_certificates,
)

from fleet.errors import BadInputError

PEM_LABEL = b"-----BEGIN PKCS7-----"
_UNREADABLE = (ValueError, UnsupportedAlgorithm)


def make_pkcs7(certificates: Sequence[x509.Certificate]) -> str:
    """Return certificates as PEM, in their order: OpenSSL, GnuTLS, Java and Windows read it."""
    return serialize_certificates(list(certificates), Encoding.PEM).decode()


def read_pkcs7(content: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PKCS#7 file, PEM or DER.

    Raises:
        BadInputError: it is none, or holds no certificate.
    """
    load = load_pem_pkcs7_certificates if PEM_LABEL in content else load_der_pkcs7_certificates
    try:
        found = load(content)
    except _UNREADABLE as error:
        raise BadInputError(
            "the file holds no PKCS#7 certificates", hint="fleet cert export makes one"
        ) from error
    if not found:
        raise BadInputError("the PKCS#7 file holds no certificate", hint="fleet cert export makes one")
    return found
