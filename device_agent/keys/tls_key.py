"""A key that signs and cannot be read, as TLS needs it, and what OpenSSL asks about its public part."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.errors import KeyStoreError

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_GROUPS = {"secp256r1": b"prime256v1", "secp384r1": b"secp384r1"}
_STRENGTHS = {"EC": {256: 128, 384: 192}, "RSA": {2048: 112, 3072: 128, 4096: 152}}
"""NIST SP 800-57 part 1, table 2; 4096 as OpenSSL counts it."""


class Scheme(StrEnum):
    """How a digest becomes a signature."""

    ECDSA = "ecdsa"
    """DER (RFC 3279 2.2.3)."""
    PKCS1 = "pkcs1"
    """RSASSA-PKCS1-v1_5 (RFC 8017 8.2)."""
    PSS = "pss"
    """RSASSA-PSS (RFC 8017 8.1); hash, mask and salt length are those of the digest (RFC 8446 4.2.3)."""


class TlsKey(Protocol):
    """A key as TLS needs it."""

    @property
    def public_key(self) -> PublicKey:
        """The public key."""
        ...

    def sign_digest(self, digest: bytes, scheme: Scheme) -> bytes:
        """Return the signature of a SHA-256, -384 or -512 digest; raises `AgentError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicFacts:
    """What OpenSSL asks of a public key (EVP_PKEY-EC(7), EVP_PKEY-RSA(7)), by the names it asks with."""

    algorithm: bytes
    """EC or RSA."""
    integers: Mapping[bytes, int]
    texts: Mapping[bytes, bytes]
    octets: Mapping[bytes, bytes] = field(default_factory=dict)
    numbers: Mapping[bytes, bytes] = field(default_factory=dict)
    """Unsigned, in the byte order of this machine."""

    @property
    def longest_signature(self) -> int:
        return self.integers[b"max-size"]


def facts_of(key: PublicKey) -> PublicFacts:
    """Return what OpenSSL asks of a public key.

    Raises:
        KeyStoreError: it is of a curve or a size that is not used here.
    """
    algorithm = "EC" if isinstance(key, ec.EllipticCurvePublicKey) else "RSA"
    strength = _STRENGTHS[algorithm].get(key.key_size)
    if strength is None:
        raise KeyStoreError(f"{algorithm} keys of {key.key_size} bits are not used here")
    sizes = {b"bits": key.key_size, b"security-bits": strength, b"max-size": _longest_signature(key)}
    if isinstance(key, rsa.RSAPublicKey):
        return PublicFacts(
            algorithm=b"RSA",
            integers=sizes,
            texts={b"default-digest": b"SHA256"},
            numbers={b"n": _number(key.public_numbers().n), b"e": _number(key.public_numbers().e)},
        )
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return PublicFacts(
        algorithm=b"EC",
        integers=sizes,
        texts={b"default-digest": b"SHA256", b"group": _GROUPS[key.curve.name]},
        octets={b"pub": point, b"encoded-pub-key": point},
    )


def _longest_signature(key: PublicKey) -> int:
    octets = key.key_size // 8
    # ECDSA-Sig-Value: two INTEGERs, each with a sign octet and a header, in a SEQUENCE (RFC 3279 2.2.3).
    return octets if isinstance(key, rsa.RSAPublicKey) else 2 * (octets + 3) + 2


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, sys.byteorder)
