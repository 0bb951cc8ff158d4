"""A company with a PKI of its own: a root, and an intermediate that signs others' CAs."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class CompanyCa:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a CA certificate of the company says; each test bends one thing."""

    ca: bool = True
    path_length: int | None = 0
    cert_sign: bool = True
    crl_sign: bool = True
    begins: timedelta = -_DAY
    ends: timedelta = 1000 * _DAY
    others: tuple[x509.ExtensionType, ...] = ()
    without: tuple[type[x509.ExtensionType], ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Issuer:
    name: x509.Name
    key: ec.EllipticCurvePrivateKey


class Company:
    """Root -> intermediate, made at one moment."""

    def __init__(
        self, *, now: datetime, root: Shape | None = None, intermediate: Shape | None = None
    ) -> None:
        self._now = now
        self.root = self._make("Example Root", None, root or Shape(path_length=None))
        self.intermediate = self._make("Example Devices", self.root, intermediate or Shape(path_length=1))

    def chain_for(self, csr_pem: str, shape: Shape | None = None) -> list[x509.Certificate]:
        """Sign a request; return the chain, the root last."""
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        key = csr.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        issuer = _Issuer(name=self.intermediate.certificate.subject, key=self.intermediate.key)
        issued = self._sign(csr.subject, key, issuer, shape or Shape())
        return [issued, self.intermediate.certificate, self.root.certificate]

    def _make(self, name: str, above: CompanyCa | None, shape: Shape) -> CompanyCa:
        key = ec.generate_private_key(ec.SECP384R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = (
            _Issuer(name=subject, key=key)
            if above is None
            else _Issuer(name=above.certificate.subject, key=above.key)
        )
        return CompanyCa(certificate=self._sign(subject, key.public_key(), issuer, shape), key=key)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: "_Issuer", shape: Shape
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now + shape.begins)
            .not_valid_after(self._now + shape.ends)
        )
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=shape.ca, path_length=shape.path_length if shape.ca else None), True),
            (_usage(shape), True),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False),
            *((other, isinstance(other, x509.NameConstraints)) for other in shape.others),
        ]
        for extension, critical in extensions:
            if not isinstance(extension, shape.without):
                builder = builder.add_extension(extension, critical=critical)
        return builder.sign(issuer.key, hashes.SHA384())


def _usage(shape: Shape) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not (shape.cert_sign or shape.crl_sign),
        key_cert_sign=shape.cert_sign,
        crl_sign=shape.crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
