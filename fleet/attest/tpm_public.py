"""Reads the public area of a TPM's key (TPM 2.0 Library Part 2, 12.2.4), RSA and elliptic curves.

It takes what the specification allows a key of these two types to have, and nothing else; hashes below
SHA-256 are refused with the structures that use them.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from types import MappingProxyType

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.attest.octets import BrokenStructureError, Octets

_RSA, _ECC = 0x0001, 0x0023
_NULL, _AES, _CFB = 0x0010, 0x0006, 0x0043
_ECDAA = 0x001A
_WITH_HASH = frozenset({0x0014, 0x0016, 0x0017, 0x0018, _ECDAA, 0x001B, 0x001C})
"""RSASSA, RSAPSS, OAEP, ECDSA, ECDAA, SM2, ECSCHNORR: schemes that go with a hash (Part 2, 11.2)."""
_WITHOUT_HASH = frozenset({_NULL, 0x0015})
_DEFAULT_EXPONENT = 65537
_LONGEST_DIGEST = 64
_LONGEST_RSA, _LONGEST_ECC = 512, 66

HASHES = MappingProxyType({0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"})
HASH_ALGORITHMS: Mapping[str, hashes.HashAlgorithm] = MappingProxyType(
    {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
)
CURVES: Mapping[int, type[ec.EllipticCurve]] = MappingProxyType(
    {0x0003: ec.SECP256R1, 0x0004: ec.SECP384R1, 0x0005: ec.SECP521R1}
)


class Attribute(IntFlag):
    """TPMA_OBJECT (Part 2, 8.3); all other bits are reserved."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18
    X509_SIGN = 1 << 19


_RESERVED = 0xFFFFFFFF & ~sum(int(each) for each in Attribute)
BORN_INSIDE = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN
"""The TPM made the key, and no command takes it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmPublic:
    """A public area."""

    area: bytes
    """TPMT_PUBLIC as it came: what the name is the hash of."""
    name_hash: str
    attributes: Attribute
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    symmetric_bits: int | None
    """AES in CFB mode, which a storage key protects its children with; None for other keys."""

    @property
    def name(self) -> bytes:
        """The name (Part 1, 16): the hash algorithm, then the hash of the area."""
        return self.area[2:4] + hashlib.new(self.name_hash, self.area).digest()

    @property
    def key_der(self) -> bytes:
        """SubjectPublicKeyInfo (RFC 5280 4.1.2.7)."""
        return self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def lacks(self, wanted: Attribute) -> str:
        """Return the names of the attributes that are wanted and not there, or the empty text."""
        return ", ".join(each.name.lower() for each in wanted & ~self.attributes if each.name)


def read_public(sized_area: bytes) -> TpmPublic:
    """Read a TPM2B_PUBLIC.

    Raises:
        BrokenStructureError: it is none, or of a key that cannot be judged here.
    """
    outer = Octets(sized_area)
    area = outer.sized(longest=1022)
    outer.end()
    octets = Octets(area)
    kind, name_hash = octets.u16(), _hash(octets.u16())
    attributes = octets.u32()
    if attributes & _RESERVED:
        raise BrokenStructureError("a reserved attribute of a TPM key is set")
    octets.sized(longest=_LONGEST_DIGEST)  # authPolicy
    symmetric_bits = _symmetric(octets)
    if kind not in (_RSA, _ECC):
        raise BrokenStructureError("a TPM key must be RSA or on an elliptic curve")
    key = _rsa(octets) if kind == _RSA else _ecc(octets)
    octets.end()
    return TpmPublic(
        area=area,
        name_hash=name_hash,
        attributes=Attribute(attributes),
        key=key,
        symmetric_bits=symmetric_bits,
    )


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a TPMS_ECC_POINT (Part 2, 11.2.5.2)."""
    octets = (key.curve.key_size + 7) // 8
    numbers = key.public_numbers()
    return b"".join(struct.pack(">H", octets) + each.to_bytes(octets) for each in (numbers.x, numbers.y))


def _hash(algorithm: int) -> str:
    if algorithm not in HASHES:
        raise BrokenStructureError("a hash must be SHA-256, SHA-384 or SHA-512")
    return HASHES[algorithm]


def _symmetric(octets: Octets) -> int | None:
    algorithm = octets.u16()
    if algorithm == _NULL:
        return None
    bits, mode = octets.u16(), octets.u16()
    if algorithm != _AES or mode != _CFB or bits not in (128, 192, 256):
        raise BrokenStructureError("a storage key must protect its children with AES in CFB mode")
    return bits


def _scheme(octets: Octets) -> None:
    scheme = octets.u16()
    if scheme in _WITH_HASH:
        _hash(octets.u16())
        if scheme == _ECDAA:
            octets.u16()  # count
    elif scheme not in _WITHOUT_HASH:
        raise BrokenStructureError("a scheme of a TPM key is not known")


def _rsa(octets: Octets) -> rsa.RSAPublicKey:
    _scheme(octets)
    bits, exponent = octets.u16(), octets.u32() or _DEFAULT_EXPONENT
    modulus = int.from_bytes(octets.sized(longest=_LONGEST_RSA))
    if modulus.bit_length() != bits or not 2048 <= bits <= 4096:
        raise BrokenStructureError("an RSA key of a TPM must have 2048 to 4096 bits, as many as it says")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise BrokenStructureError("the RSA key of a TPM is none") from error


def _ecc(octets: Octets) -> ec.EllipticCurvePublicKey:
    _scheme(octets)
    curve = CURVES.get(octets.u16())
    if curve is None:
        raise BrokenStructureError("a TPM key's curve must be P-256, P-384 or P-521")
    if octets.u16() != _NULL:
        _hash(octets.u16())  # of the KDF
    x, y = (int.from_bytes(octets.sized(longest=_LONGEST_ECC)) for _ in range(2))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ValueError as error:
        raise BrokenStructureError("the key of a TPM is no point of its curve") from error
