"""Manifests of secure elements for tests: entries signed as their maker signs them (RFC 7515, ES256)."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID


def url64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def self_signed(
    key: ec.EllipticCurvePrivateKey, name: str, *, begins: datetime, ends: datetime
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    )
    builder = (
        builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
    )
    return builder.sign(key, hashes.SHA256())


@dataclass(kw_only=True)
class ManifestMaker:
    """A maker of secure elements, and the certificate by which its manifests are known."""

    at: datetime
    lifetime: timedelta = timedelta(days=3650)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        begins = self.at - timedelta(days=1000)
        self.certificate = self_signed(self.key, "Signer", begins=begins, ends=begins + self.lifetime)

    @property
    def header(self) -> dict[str, object]:
        thumbprint = hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).digest()
        return {"typ": "JWT", "alg": "ES256", "kid": "kid", "x5t#S256": url64(thumbprint)}

    def entry(
        self, unique_id: str, *keys: ec.EllipticCurvePublicKey, header: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """Return a signed entry for a part with these keys; the first has a certificate."""
        found = [jwk(key, slot) for slot, key in enumerate(keys)]
        payload = {
            "version": 1,
            "model": "ATECC608B",
            "partNumber": "ATECC608B-TFLXTLS",
            "uniqueId": unique_id,
            "provisioningTimestamp": "2026-01-24T16:35:23.473Z",
            "publicKeySet": {"keys": found},
            "encryptedSecretKeySet": {"keys": []},
        }
        return self.sign(json.dumps(payload).encode(), header=header or self.header) | {
            "header": {"uniqueId": unique_id}
        }

    def sign(self, payload: bytes, *, header: Mapping[str, object]) -> dict[str, object]:
        protected, body = url64(json.dumps(header).encode()), url64(payload)
        der = self.key.sign(f"{protected}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(der)
        return {
            "payload": body,
            "protected": protected,
            "signature": url64(r.to_bytes(32) + s.to_bytes(32)),
        }


def jwk(key: ec.EllipticCurvePublicKey, slot: int) -> dict[str, object]:
    numbers = key.public_numbers()
    return {
        "kid": str(slot),
        "kty": "EC",
        "crv": "P-256",
        "x": url64(numbers.x.to_bytes(32)),
        "y": url64(numbers.y.to_bytes(32)),
    }
