"""A manufacturer for tests: a root, an issuing CA, and certificates in devices (IDevID, IEEE 802.1AR)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tests.pki import Authority, Pair, pem_of

FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""802.1AR 8.7: an IDevID that does not end."""
_HARDWARE_MODULE_NAME = ObjectIdentifier("1.3.6.1.5.5.7.8.4")

Change = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


def hardware_module(serial: bytes) -> x509.OtherName:
    """Return hardwareModuleName (RFC 4108 5) of some hardware type."""
    body = bytes.fromhex("06062b0601040101") + bytes([0x04, len(serial)]) + serial
    return x509.OtherName(_HARDWARE_MODULE_NAME, bytes([0x30, len(body)]) + body)


@dataclass(kw_only=True)
class TestMaker:
    """A root and the issuing CA below it."""

    __test__ = False

    root: Authority = field(default_factory=lambda: Authority.root("Maker Root"))

    def __post_init__(self) -> None:
        self.issuing = self.root.issuing("Maker Device CA")

    def anchors(self, path: Path) -> Path:
        """Write root and issuing CA, PEM."""
        path.write_bytes(pem_of(self.root.certificate) + pem_of(self.issuing.certificate))
        return path

    def idevid(
        self,
        serial_number: str,
        *,
        common_name: str = "device",
        module: bytes = b"",
        begins: datetime | None = None,
        ends: datetime = FOREVER,
        change: Change = lambda builder: builder,
    ) -> Pair:
        """Return a certificate in a device, with no extended key usage, as most makers give them."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, serial_number),
            ]
        )
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuing.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.issuing.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins or datetime.now(UTC) - timedelta(days=900))
            .not_valid_after(ends)
            .add_extension(above, critical=False)
        )
        if module:
            names = x509.SubjectAlternativeName([hardware_module(module)])
            builder = builder.add_extension(names, critical=False)
        certificate = change(builder).sign(self.issuing.key, hashes.SHA256())
        return Pair(key=key, certificate=certificate, chain=(self.issuing.certificate,))


def pem_text(pair: Pair) -> str:
    return pair.certificate.public_bytes(Encoding.PEM).decode()
