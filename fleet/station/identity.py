"""Who the station is: its certificate chain, and the key that signs what it orders devices to install.

The key stays in memory and signs; nothing here prints it or writes it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from device_agent.wire.factory import MAX_STATION_CHAIN
from fleet.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class StationIdentity:
    """A station's name, chain (DER, leaf first, without the root) and key."""

    name: str
    chain: tuple[bytes, ...]
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read both PEM files: the certificate with its issuing CA below it, and the unencrypted key.

        Raises:
            BadInputError: a file cannot be read, or the two do not belong together.
        """
        hint = "fleet station add makes both"
        try:
            chain = x509.load_pem_x509_certificates(certificate.read_bytes())
            private_key = load_pem_private_key(key.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise BadInputError(
                f"cannot read the station's identity from {certificate} and {key}", hint=hint
            ) from error
        if not isinstance(private_key, ec.EllipticCurvePrivateKey):
            raise BadInputError(f"the station's key in {key} is not an EC key", hint=hint)
        if chain[0].public_key() != private_key.public_key() or len(chain) > MAX_STATION_CHAIN:
            raise BadInputError(f"the certificate {certificate} is not for the key {key}", hint=hint)
        return cls(
            name=_common_name(chain[0]),
            chain=tuple(item.public_bytes(Encoding.DER) for item in chain),
            key=private_key,
        )

    def sign(self, message: bytes) -> bytes:
        """Return an ECDSA signature with SHA-256, in DER."""
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
