"""The manufacturer's certificate of a device (IDevID, IEEE 802.1AR) and its key, in PEM files.

It signs challenges and nothing else: a certificate of ours never has its key.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from device_agent.errors import KeyStoreError, StateError
from device_agent.files import read_file
from device_agent.wire.evidence import IdevidEvidence
from device_agent.wire.proofs import idevid_text
from device_agent.wire.replies import Challenge

_MOST = 48 * 1024
_END = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdevidAttestor:
    """A certificate, with the CAs above it if they are in its file, and the file of its key."""

    certificate: Path
    key: Path

    def identity(self) -> None:
        """Return nothing: the certificate is shown with the answer."""

    def answer(self, challenge: Challenge, *, device_id: str, key: str, key_hash: str) -> IdevidEvidence:
        """Sign a challenge for a new key; raises `KeyStoreError`."""
        del key  # it may be anywhere: the manufacturer's key vouches for it
        text = idevid_text(
            fleet=challenge.fleet,
            domain=challenge.domain,
            device_id=device_id,
            nonce=challenge.nonce,
            key_hash=key_hash,
        )
        leaf, end, chain = _read(self.certificate).decode("ascii", "replace").partition(_END)
        return IdevidEvidence(
            certificate=f"{leaf.lstrip()}{end}\n",
            chain=chain.lstrip() or None,
            nonce=challenge.nonce,
            signature=self._sign(text),
        )

    def _sign(self, text: bytes) -> bytes:
        try:
            key = load_pem_private_key(_read(self.key), password=None)
        except (ValueError, TypeError) as error:
            raise KeyStoreError(
                f"{self.key} holds no private key", hint="--idevid takes idevid.crt,idevid.key"
            ) from error
        match key:
            case ec.EllipticCurvePrivateKey():
                return key.sign(text, ec.ECDSA(hashes.SHA256()))
            case rsa.RSAPrivateKey():
                return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
            case ed25519.Ed25519PrivateKey():
                return key.sign(text)
            case _:
                raise KeyStoreError(f"{self.key} holds a key of a kind that signs nothing here")


def _read(path: Path) -> bytes:
    try:
        content = read_file(path, most=_MOST)
    except StateError as error:
        raise KeyStoreError(str(error), hint=error.hint) from error
    if content is None:
        raise KeyStoreError(f"there is no file {path}", hint="--idevid takes idevid.crt,idevid.key")
    return content
