"""What tests of EST send and read: bodies, logins, certs-only answers."""

import base64
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509.oid import NameOID

from fleet.ca.signers import ClassicPrivateKey, hash_of

CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(kw_only=True)
class EstUnit:
    """A device with a client of another maker: one key, and how it asks for a certificate."""

    device_id: str
    key: ClassicPrivateKey = field(default_factory=new_key)
    dns_names: tuple[str, ...] = ()

    @property
    def csr(self) -> bytes:
        """Base64 of the DER request, in lines, as most clients send it."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.device_id)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        if self.dns_names:
            names = x509.SubjectAlternativeName([x509.DNSName(name) for name in self.dns_names])
            builder = builder.add_extension(names, critical=False)
        return base64.encodebytes(
            builder.sign(self.key, hash_of(self.key.public_key())).public_bytes(Encoding.DER)
        )

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def certificates(body: bytes) -> list[x509.Certificate]:
    """Read a certs-only answer in the one form that all clients take."""
    assert body.endswith(b"\n")
    assert body.count(b"\n") == 1
    return load_der_pkcs7_certificates(base64.b64decode(body[:-1], validate=True))


def leaf(body: bytes) -> x509.Certificate:
    (found,) = certificates(body)
    return found
