"""YubiKeys for tests, as a server sees them: certificates of a made-up maker with the real extensions.

No real YubiKey was at hand: shapes are those of the maker's documentation (PIV attestation).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from device_agent.wire.evidence import PivEvidence
from tests.pki import pem_of

Change = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
BEGINS, ENDS = datetime(2016, 3, 14, tzinfo=UTC), datetime(2052, 4, 17, tzinfo=UTC)
FIRMWARE, SERIAL, POLICY, FORM = (ObjectIdentifier(f"1.3.6.1.4.1.41482.3.{arc}") for arc in (3, 7, 8, 9))


def unchanged(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder


@dataclass(frozen=True, kw_only=True)
class Says:
    """What an attestation says; None leaves an extension out."""

    firmware: bytes | None = bytes((5, 7, 1))
    serial: bytes | None = bytes.fromhex("0204 01c9a3b0")
    policy: bytes | None = bytes((2, 1))
    form: bytes | None = bytes((3,))
    slot: str = "9a"


@dataclass(kw_only=True)
class Signer:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def signs(
        self,
        name: str,
        key: PublicKey,
        *extensions: x509.ExtensionType,
        begins: datetime = BEGINS,
        ends: datetime = ENDS,
        change: Change = unchanged,
    ) -> x509.Certificate:
        """Return a certificate for a key, with no more in it than these makers put there."""
        builder = x509.CertificateBuilder(
            self.certificate.subject, _name(name), key, x509.random_serial_number(), begins, ends
        )
        for extension in extensions:
            builder = builder.add_extension(extension, isinstance(extension, x509.BasicConstraints))
        return change(builder).sign(self.key, hashes.SHA256())

    @classmethod
    def root(cls, name: str = "Yubico PIV Root CA Serial 263751") -> "Signer":
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder(_name(name), _name(name), key.public_key(), 263751, BEGINS, ENDS)
        ca = x509.BasicConstraints(ca=True, path_length=None)
        return cls(key=key, certificate=builder.add_extension(ca, True).sign(key, hashes.SHA256()))

    def authority(
        self, name: str, *, path_length: int | None = 0, ca: bool = True, ends: datetime = ENDS
    ) -> "Signer":
        key = ec.generate_private_key(ec.SECP256R1())
        basic = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
        return Signer(key=key, certificate=self.signs(name, key.public_key(), basic, ends=ends))


@dataclass(kw_only=True)
class YubiKey:
    """One, with its key f9 below a maker's root."""

    root: Signer = field(default_factory=Signer.root)

    def __post_init__(self) -> None:
        self.f9 = self.root.authority("Yubico PIV Attestation")

    def attests(self, key: PublicKey, says: Says = Says(), *, by: Signer | None = None) -> x509.Certificate:
        """Return the attestation of a key."""
        said = {FIRMWARE: says.firmware, SERIAL: says.serial, POLICY: says.policy, FORM: says.form}
        extensions = [
            x509.UnrecognizedExtension(oid, value) for oid, value in said.items() if value is not None
        ]
        return (by or self.f9).signs(f"YubiKey PIV Attestation {says.slot}", key, *extensions)

    def evidence(self, key: PublicKey, says: Says = Says()) -> PivEvidence:
        return evidence_of(self.attests(key, says), self.f9.certificate)

    def write(self, folder: Path, key: PublicKey, says: Says = Says()) -> Path:
        """Write what a device shows, as its maker's tool does."""
        folder.mkdir(exist_ok=True)
        (folder / "attestation.pem").write_bytes(pem_of(self.attests(key, says)))
        (folder / "intermediate.pem").write_bytes(pem_of(self.f9.certificate))
        return folder


def evidence_of(*certificates: x509.Certificate) -> PivEvidence:
    leaf, *above = (pem_of(each).decode() for each in certificates)
    return PivEvidence(certificate=leaf, chain="".join(above) or None)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
