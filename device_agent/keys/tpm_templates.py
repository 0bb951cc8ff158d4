"""The public areas that keys in a TPM are made by (TPMT_PUBLIC, TPM 2.0 Library Part 2, 12.2.4).

The endorsement keys' are fixed by the TCG (EK Credential Profile B.3): with any other template a TPM makes
another key than the one that its vendor's certificate is for.
"""

import struct

_ECC, _RSA = 0x0023, 0x0001
_SHA256, _NULL, _AES, _CFB, _ECDSA = 0x000B, 0x0010, 0x0006, 0x0043, 0x0018
_P256 = 0x0003
_AES_128_CFB = struct.pack(">HHH", _AES, 128, _CFB)
_NOTHING = struct.pack(">H", _NULL)
_ECDSA_SHA256 = struct.pack(">HH", _ECDSA, _SHA256)

_BORN_INSIDE = 1 << 1 | 1 << 4 | 1 << 5
"""fixedTPM, fixedParent, sensitiveDataOrigin."""
_USER_WITH_AUTH, _ADMIN_WITH_POLICY, _NO_DA = 1 << 6, 1 << 7, 1 << 10
_RESTRICTED, _DECRYPT, _SIGN = 1 << 16, 1 << 17, 1 << 18

_EK_ATTRIBUTES = _BORN_INSIDE | _ADMIN_WITH_POLICY | _RESTRICTED | _DECRYPT
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""PolicySecret of the endorsement hierarchy."""


def sized(octets: bytes) -> bytes:
    """Return a TPM2B."""
    return struct.pack(">H", len(octets)) + octets


def _ecc(attributes: int, *, symmetric: bytes, scheme: bytes, policy: bytes = b"", octets: int = 0) -> bytes:
    head = struct.pack(">HHI", _ECC, _SHA256, attributes) + sized(policy)
    unique = sized(bytes(octets))
    return head + symmetric + scheme + struct.pack(">H", _P256) + _NOTHING + unique + unique


EK_ECC = _ecc(_EK_ATTRIBUTES, symmetric=_AES_128_CFB, scheme=_NOTHING, policy=_EK_POLICY, octets=32)
"""Template L-2."""
EK_RSA = (
    struct.pack(">HHI", _RSA, _SHA256, _EK_ATTRIBUTES)
    + sized(_EK_POLICY)
    + _AES_128_CFB
    + _NOTHING
    + struct.pack(">HI", 2048, 0)
    + sized(bytes(256))
)
"""Template L-1."""
STORAGE = _ecc(
    _BORN_INSIDE | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _DECRYPT,
    symmetric=_AES_128_CFB,
    scheme=_NOTHING,
    octets=32,
)
"""What device keys are kept under: the same key each time it is made."""
ATTESTATION = _ecc(
    _BORN_INSIDE | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _SIGN, symmetric=_NOTHING, scheme=_ECDSA_SHA256
)
"""Restricted: it signs what the TPM itself says, and nothing else."""
DEVICE_KEY = _ecc(_BORN_INSIDE | _USER_WITH_AUTH | _NO_DA | _SIGN, symmetric=_NOTHING, scheme=_NOTHING)
