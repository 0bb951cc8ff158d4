"""What a TPM would say, by keys in memory: for what no honest TPM says, and for bytes that are wrong."""

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.keys.tpm_templates import sized
from device_agent.wire.evidence import TpmEvidence, TpmIdentity
from device_agent.wire.proofs import tpm_qualifying_data
from fleet.attest.tpm_public import Attribute, read_public

BORN_INSIDE = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN
EK = BORN_INSIDE | Attribute.ADMIN_WITH_POLICY | Attribute.RESTRICTED | Attribute.DECRYPT
AK = BORN_INSIDE | Attribute.USER_WITH_AUTH | Attribute.RESTRICTED | Attribute.SIGN
KEY = BORN_INSIDE | Attribute.USER_WITH_AUTH | Attribute.SIGN

_AES = struct.pack(">HHH", 0x0006, 128, 0x0043)
_NULL = struct.pack(">H", 0x0010)
_ECDSA_SHA256 = struct.pack(">HH", 0x0018, 0x000B)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_area(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    attributes: int,
    *,
    symmetric: bytes = _NULL,
    scheme: bytes = _NULL,
    name_hash: int = 0x000B,
) -> bytes:
    """Return a TPM2B_PUBLIC."""
    kind = 0x0023 if isinstance(key, ec.EllipticCurvePublicKey) else 0x0001
    head = struct.pack(">HHI", kind, name_hash, attributes) + sized(b"")
    if isinstance(key, rsa.RSAPublicKey):
        modulus = key.public_numbers().n.to_bytes(key.key_size // 8)
        return sized(head + symmetric + scheme + struct.pack(">HI", key.key_size, 0) + sized(modulus))
    octets, numbers = (key.key_size + 7) // 8, key.public_numbers()
    curve = {256: 3, 384: 4, 521: 5}[key.key_size]
    point = sized(numbers.x.to_bytes(octets)) + sized(numbers.y.to_bytes(octets))
    return sized(head + symmetric + scheme + struct.pack(">H", curve) + _NULL + point)


def attest_of(name: bytes, extra_data: bytes, *, magic: int = 0xFF544347, kind: int = 0x8017) -> bytes:
    """Return a TPMS_ATTEST."""
    clock = struct.pack(">QIIB", 5, 1, 1, 1) + struct.pack(">Q", 7)
    return struct.pack(">IH", magic, kind) + sized(b"") + sized(extra_data) + clock + sized(name) + sized(b"")


def signature_of(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return a TPMT_SIGNATURE."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return _ECDSA_SHA256 + sized(r.to_bytes(32)) + sized(s.to_bytes(32))


def der_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(kw_only=True)
class SoftTpm:
    """A TPM as it presents itself; each of its parts may be made wrong."""

    ek: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    ak: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    ek_attributes: int = EK
    ak_attributes: int = AK
    key_attributes: int = KEY

    @property
    def identity(self) -> TpmIdentity:
        ek = public_area(self.ek.public_key(), self.ek_attributes, symmetric=_AES)
        ak = public_area(self.ak.public_key(), self.ak_attributes, scheme=_ECDSA_SHA256)
        return TpmIdentity(ek_public=ek, ak_public=ak)

    def evidence(
        self,
        *,
        nonce: str,
        secret: bytes,
        device_id: str = "d1",
        domain: str = "prod",
        fleet: str = "acme",
        magic: int = 0xFF544347,
        kind: int = 0x8017,
        certified: ec.EllipticCurvePrivateKey | None = None,
        signs: ec.EllipticCurvePrivateKey | None = None,
    ) -> TpmEvidence:
        """Return the answer to a challenge."""
        wanted = tpm_qualifying_data(fleet=fleet, domain=domain, device_id=device_id, nonce=nonce)
        public = public_area(self.key.public_key(), self.key_attributes)
        other = public if certified is None else public_area(certified.public_key(), KEY)
        attest = attest_of(read_public(other).name, wanted, magic=magic, kind=kind)
        return TpmEvidence(
            tpm=self.identity,
            nonce=nonce,
            secret=secret,
            key_public=public,
            attest=attest,
            signature=signature_of(signs or self.ak, attest),
        )

    def activate(self, blob: bytes, secret: bytes, *, ak: bytes) -> bytes:
        """Open a credential as TPM2_ActivateCredential does (Part 1, 24): for P-256, SHA-256 and AES-128."""
        x, y = secret[4:36], secret[38:70]
        point = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
        z = self.ek.exchange(ec.ECDH(), point.public_key())
        own = self.ek.public_key().public_numbers().x.to_bytes(32)
        seed = hashlib.sha256((1).to_bytes(4) + z + b"IDENTITY\0" + x + own).digest()
        name, outer, sealed = read_public(ak).name, blob[4:36], blob[36:]
        integrity = _kdfa(seed, b"INTEGRITY\0", b"", 256)
        if not hmac.compare_digest(hmac.digest(integrity, sealed + name, "sha256"), outer):
            raise ValueError("the credential is for another TPM, or another attestation key")
        key = _kdfa(seed, b"STORAGE\0", name, 128)
        return _cfb(key, sealed)[2:]


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    message = (1).to_bytes(4) + label + context + bits.to_bytes(4)
    return hmac.digest(key, message, "sha256")[: bits // 8]


def _cfb(key: bytes, sealed: bytes) -> bytes:
    """Undo AES in CFB mode with a zero vector, block by block."""
    block, found = bytes(16), b""
    for at in range(0, len(sealed), 16):
        part = sealed[at : at + 16]
        stream = Cipher(AES(key), ECB()).encryptor().update(block)
        found += bytes(a ^ b for a, b in zip(part, stream, strict=False))
        block = part.ljust(16, b"\0")
    return found
