"""Reads what a TPM says of a key (TPMS_ATTEST of TPM2_Certify) and the signature over it (TPMT_SIGNATURE).

TPM 2.0 Library Part 2, 10.12 and 11.3. A signature is verified over the very bytes that came.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from fleet.attest.octets import BrokenStructureError, Octets
from fleet.attest.tpm_public import HASH_ALGORITHMS, HASHES

_GENERATED = 0xFF544347
"""TPM_GENERATED_VALUE: no restricted key signs anything else that begins so (Part 1, 31.4)."""
_CERTIFY = 0x8017
_RSASSA, _RSAPSS, _ECDSA = 0x0014, 0x0016, 0x0018
_LONGEST_NAME = 66
_LONGEST_DATA = 64
_LONGEST_NUMBER = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """What TPM2_Certify attests: a key of this name is in the TPM; `extra_data` is what the caller gave."""

    name: bytes
    extra_data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmSignature:
    """A TPMT_SIGNATURE; an ECDSA signature is in DER (RFC 3279 2.2.3)."""

    scheme: int
    hash_name: str
    value: bytes

    def verify(self, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, data: bytes) -> bool:
        """Tell whether the key has signed the data."""
        algorithm = HASH_ALGORITHMS[self.hash_name]
        try:
            if isinstance(key, ec.EllipticCurvePublicKey) and self.scheme == _ECDSA:
                key.verify(self.value, data, ec.ECDSA(algorithm))
            elif isinstance(key, rsa.RSAPublicKey) and self.scheme in (_RSASSA, _RSAPSS):
                key.verify(self.value, data, self._padding(algorithm), algorithm)
            else:
                return False
        except InvalidSignature:
            return False
        return True

    def _padding(self, algorithm: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
        if self.scheme == _RSASSA:
            return padding.PKCS1v15()
        # Part 1, B.7: the salt is as long as the hash, or as the key allows.
        return padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)


def read_certified(attest: bytes) -> Certified:
    """Read a TPMS_ATTEST of type TPM_ST_ATTEST_CERTIFY.

    Raises:
        BrokenStructureError: it is none.
    """
    octets = Octets(attest)
    if octets.u32() != _GENERATED:
        raise BrokenStructureError("what was signed was not made by a TPM")
    if octets.u16() != _CERTIFY:
        raise BrokenStructureError("what the TPM signed is no certification of a key")
    octets.sized(longest=_LONGEST_NAME)  # qualifiedSigner
    extra_data = octets.sized(longest=_LONGEST_DATA)
    octets.take(8 + 4 + 4)  # clock, resetCount, restartCount
    if octets.u8() not in (0, 1):
        raise BrokenStructureError("a flag of the TPM's clock is neither yes nor no")
    octets.u64()  # firmwareVersion
    name = octets.sized(longest=_LONGEST_NAME)
    octets.sized(longest=_LONGEST_NAME)  # qualifiedName
    octets.end()
    return Certified(name=name, extra_data=extra_data)


def read_signature(signature: bytes) -> TpmSignature:
    """Read a TPMT_SIGNATURE.

    Raises:
        BrokenStructureError: it is none of a scheme and a hash that are taken here.
    """
    octets = Octets(signature)
    scheme, algorithm = octets.u16(), octets.u16()
    if algorithm not in HASHES:
        raise BrokenStructureError("a signature's hash must be SHA-256, SHA-384 or SHA-512")
    if scheme == _ECDSA:
        r, s = (int.from_bytes(octets.sized(longest=_LONGEST_NUMBER)) for _ in range(2))
        value = encode_dss_signature(r, s)
    elif scheme in (_RSASSA, _RSAPSS):
        value = octets.sized(longest=_LONGEST_NUMBER)
    else:
        raise BrokenStructureError("a signature must be RSASSA, RSAPSS or ECDSA")
    octets.end()
    return TpmSignature(scheme=scheme, hash_name=HASHES[algorithm], value=value)
