"""PKCS#12 for operators' browsers: PBES2 with AES-256, MAC with SHA-256 (RFC 7292, RFC 9579 leaves it so).

The key derivation of the outer MAC is weak by its standard: use a long random password, never a person's.
"""

import base64
from collections.abc import Sequence
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES, serialize_key_and_certificates

from device_agent.wire.secret import Secret
from fleet.ca.signers import ClassicPrivateKey

PASSWORD_RANDOMNESS = 20
"""Octets of randomness in a password: 160 bits."""

_ROUNDS = 20_000


class Compat(StrEnum):
    """Who must be able to read a file."""

    MODERN = "modern"
    """AES-256, PBKDF2 with HMAC-SHA256: whatever was made since about 2020."""
    LEGACY = "legacy"
    """3DES, SHA-1: weak, for what can read nothing else, such as macOS before 15 and Windows before 2019."""


def new_password(randomness: bytes) -> Secret:
    """Return a password of 32 characters a person can type, from 20 octets of randomness."""
    if len(randomness) != PASSWORD_RANDOMNESS:
        raise ValueError(f"a password needs {PASSWORD_RANDOMNESS} octets of randomness")
    return Secret(base64.b32encode(randomness).decode().lower())


def make_pkcs12(
    name: str,
    key: ClassicPrivateKey,
    *,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    password: Secret,
    compat: Compat = Compat.MODERN,
) -> bytes:
    """Return a PKCS#12 file; the modern form is read by OpenSSL 3, NSS, Java 17, GnuTLS, current browsers."""
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(_CIPHERS[compat])
        .hmac_hash(_DIGESTS[compat])
        .build(password.reveal().encode())
    )
    return serialize_key_and_certificates(name.encode(), key, certificate, chain, encryption)


_CIPHERS = {
    Compat.MODERN: PBES.PBESv2SHA256AndAES256CBC,
    Compat.LEGACY: PBES.PBESv1SHA1And3KeyTripleDESCBC,
}
_DIGESTS: dict[Compat, hashes.HashAlgorithm] = {
    Compat.MODERN: hashes.SHA256(),
    Compat.LEGACY: hashes.SHA1(),  # noqa: S303 - labelled as weak, and for those alone who can read nothing else
}
