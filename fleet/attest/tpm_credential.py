"""TPM2_MakeCredential without a TPM: wraps a secret that one TPM opens, and only beside one of its keys.

TPM 2.0 Library Part 1, 24 (credential protection), 11.4.10 (KDFa, KDFe) and B.10.4, C.6.4 (secret sharing).
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

try:  # where newer releases of the library keep the mode; a TPM has no other
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:
    from cryptography.hazmat.primitives.ciphers.modes import CFB

from fleet.attest.octets import BrokenStructureError, sized
from fleet.attest.tpm_public import HASH_ALGORITHMS, TpmPublic, point_of

_IDENTITY, _STORAGE, _INTEGRITY = b"IDENTITY\0", b"STORAGE\0", b"INTEGRITY\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, for TPM2_ActivateCredential."""

    blob: bytes
    secret: bytes


def make_credential(
    ek: TpmPublic, secret: bytes, *, name: bytes, randomness: Callable[[int], bytes]
) -> Credential:
    """Wrap a secret for the TPM that has an endorsement key and, in it, the object of a name.

    Raises:
        BrokenStructureError: the key cannot protect anything, or the secret is longer than its hash.
    """
    if ek.symmetric_bits is None:
        raise BrokenStructureError("the endorsement key is no storage key")
    if len(secret) > hashlib.new(ek.name_hash).digest_size:
        raise BrokenStructureError("the secret is longer than the endorsement key's hash")
    seed, shared = _share_seed(ek, randomness)
    # The initial vector is zero because the key is used once (Part 1, 24.4).
    key = _kdfa(ek.name_hash, seed, _STORAGE, name, bits=ek.symmetric_bits)
    cipher = Cipher(AES(key), CFB(bytes(16))).encryptor()
    identity = cipher.update(sized(secret)) + cipher.finalize()
    digest_bits = hashlib.new(ek.name_hash).digest_size * 8
    outer = hmac.digest(
        _kdfa(ek.name_hash, seed, _INTEGRITY, b"", bits=digest_bits), identity + name, ek.name_hash
    )
    return Credential(blob=sized(sized(outer) + identity), secret=sized(shared))


def _share_seed(ek: TpmPublic, randomness: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Return a fresh seed, and what the owner of the endorsement key has it by."""
    match ek.key:
        case rsa.RSAPublicKey() as key:
            algorithm = HASH_ALGORITHMS[ek.name_hash]
            seed = randomness(hashlib.new(ek.name_hash).digest_size)
            oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, label=_IDENTITY)
            return seed, key.encrypt(seed, oaep)
        case key:
            ephemeral = ec.generate_private_key(key.curve)
            z = ephemeral.exchange(ec.ECDH(), key)
            mine, theirs = (_x(each) for each in (ephemeral.public_key(), key))
            return _kdfe(ek.name_hash, z, mine, theirs), point_of(ephemeral.public_key())


def _x(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_numbers().x.to_bytes((key.curve.key_size + 7) // 8)


def _kdfa(hash_name: str, key: bytes, label: bytes, context: bytes, *, bits: int) -> bytes:
    """NIST SP 800-108 in counter mode with HMAC; contextV is empty here."""
    octets, made, counter = bits // 8, b"", 0
    while len(made) < octets:
        counter += 1
        message = counter.to_bytes(4) + label + context + bits.to_bytes(4)
        made += hmac.digest(key, message, hash_name)
    return made[:octets]


def _kdfe(hash_name: str, z: bytes, ephemeral_x: bytes, ek_x: bytes) -> bytes:
    """NIST SP 800-56A's concatenation, for one block: a seed is as long as the hash."""
    return hashlib.new(hash_name, (1).to_bytes(4) + z + _IDENTITY + ephemeral_x + ek_x).digest()
