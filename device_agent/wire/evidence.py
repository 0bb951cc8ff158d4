"""What a device shows of its hardware: a maker's certificate, a TPM and a key in it, a PIV token's word.

It reads sizes and shapes; what the bytes prove, the server's verifiers find out.
"""

import base64
from dataclasses import dataclass
from typing import Self

from device_agent.wire.fields import Fields

NONCE_BYTES = 32
MAX_PUBLIC_BYTES = 1024
"""Of a TPM2B_PUBLIC: one of RSA 4096 has about 550."""
MAX_ATTEST_BYTES = 2048
MAX_SIGNATURE_BYTES = 1024
MAX_SECRET_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class IdevidEvidence:
    """A manufacturer's certificate (IDevID, IEEE 802.1AR), and its key's signature over `proofs.idevid_text`.

    `chain` holds the certificates between it and the manufacturer's root, PEM.
    """

    certificate: str
    chain: str | None = None
    nonce: str
    signature: bytes

    def members(self) -> dict[str, object]:
        return {
            "certificate": self.certificate,
            "chain": self.chain,
            "nonce": self.nonce,
            "signature": _base64(self.signature),
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            certificate=fields.pem("certificate"),
            chain=fields.pem("chain") if "chain" in fields else None,
            nonce=nonce_of(fields),
            signature=fields.base64("signature", longest=MAX_SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmIdentity:
    """Which TPM: its endorsement key with the vendor's certificate, if it has one, and its attestation key.

    The public areas are TPM2B_PUBLIC (TPM 2.0 Library Part 2, 12.2.5).
    """

    ek_public: bytes
    ek_certificate: str | None = None
    ek_chain: str | None = None
    ak_public: bytes

    def members(self) -> dict[str, object]:
        return {
            "ek_public": _base64(self.ek_public),
            "ek_certificate": self.ek_certificate,
            "ek_chain": self.ek_chain,
            "ak_public": _base64(self.ak_public),
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            ek_public=fields.base64("ek_public", longest=MAX_PUBLIC_BYTES),
            ek_certificate=fields.pem("ek_certificate") if "ek_certificate" in fields else None,
            ek_chain=fields.pem("ek_chain") if "ek_chain" in fields else None,
            ak_public=fields.base64("ak_public", longest=MAX_PUBLIC_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmEvidence:
    """That the TPM could open the challenge, and that its attestation key certified the device's key.

    `secret` is what TPM2_ActivateCredential returned; `attest` and `signature` are TPMS_ATTEST and
    TPMT_SIGNATURE of TPM2_Certify with `proofs.tpm_qualifying_data`.
    """

    tpm: TpmIdentity
    nonce: str
    secret: bytes
    key_public: bytes
    attest: bytes
    signature: bytes

    def members(self) -> dict[str, object]:
        return {
            "tpm": self.tpm.members(),
            "nonce": self.nonce,
            "secret": _base64(self.secret),
            "key_public": _base64(self.key_public),
            "attest": _base64(self.attest),
            "signature": _base64(self.signature),
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            tpm=TpmIdentity.read(fields.object("tpm")),
            nonce=nonce_of(fields),
            secret=fields.base64("secret", longest=MAX_SECRET_BYTES),
            key_public=fields.base64("key_public", longest=MAX_PUBLIC_BYTES),
            attest=fields.base64("attest", longest=MAX_ATTEST_BYTES),
            signature=fields.base64("signature", longest=MAX_SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PivEvidence:
    """The certificate by which a PIV token attests the very key of the request, and those above it, PEM."""

    certificate: str
    chain: str | None = None

    def members(self) -> dict[str, object]:
        return {"certificate": self.certificate, "chain": self.chain}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            certificate=fields.pem("certificate"), chain=fields.pem("chain") if "chain" in fields else None
        )


def nonce_of(fields: Fields) -> str:
    """Return the nonce of a challenge, 64 lower-case hex."""
    return fields.hex("nonce", lowest=NONCE_BYTES, highest=NONCE_BYTES).hex()


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
