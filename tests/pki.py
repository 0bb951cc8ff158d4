"""A fleet's certificates for tests, made in memory: roots, issuing CAs, leaves of every purpose, CRLs.

It follows the shape of the real hierarchy, and can also make what the real one never would.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.core.certificates import lifetime
from fleet.model import AllowlistEntry, Purpose

_SERIALS = itertools.count(0x40 << 120)
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH


def utc_now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Key, certificate, and the chain that goes with it (issuing CA, without the root)."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def serial(self) -> str:
        return f"{self.certificate.serial_number:032x}"

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def issuer_id(self) -> str:
        identifier = self.certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        return (identifier.value.key_identifier or b"").hex()

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.crt` (leaf, then chain) and `<name>.key`, and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(b"".join(pem_of(one) for one in (self.certificate, *self.chain)))
        key.touch(mode=0o600)
        key.write_bytes(key_pem(self.key))
        return certificate, key


@dataclass(kw_only=True)
class Authority:
    """A root or an issuing CA."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    above: "Authority | None" = None
    revoked: list[int] = field(default_factory=list)

    @classmethod
    def root(cls, common_name: str) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _authority_certificate(common_name, key, above=None, signed_with=key)
        return cls(key=key, certificate=certificate)

    def issuing(self, common_name: str) -> "Authority":
        """Return a new issuing CA below this one."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _authority_certificate(common_name, key, above=self.certificate, signed_with=self.key)
        return Authority(key=key, certificate=certificate, above=self)

    @property
    def issuer_id(self) -> str:
        return _subject_key_identifier(self.certificate).digest.hex()

    def leaf(
        self,
        common_name: str,
        *,
        usages: Sequence[x509.ObjectIdentifier] = (_CLIENT,),
        hosts: Sequence[str] = (),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        serial: int | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Pair:
        """Return a new leaf, valid from an hour ago for a day unless told otherwise."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = utc_now()
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(next(_SERIALS) if serial is None else serial)
            .not_valid_before(not_before or now - timedelta(hours=1))
            .not_valid_after(not_after or now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_leaf_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_authority_key_identifier(self.certificate), critical=False)
        )
        if hosts:
            builder = builder.add_extension(_alternative_names(hosts), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Pair(key=key, certificate=certificate, chain=(self.certificate,) if self.above else ())

    def crl(self, *, this_update: datetime | None = None, next_update: datetime | None = None) -> bytes:
        """Return the CRL of what `revoked` names, DER."""
        now = utc_now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(this_update or now - timedelta(minutes=1))
            .next_update(next_update or now + timedelta(days=1))
            .add_extension(x509.CRLNumber(1 + len(self.revoked)), critical=False)
            .add_extension(_authority_key_identifier(self.certificate), critical=False)
        )
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


class Pki:
    """The hierarchy of one fleet: each domain, bootstrap, and the fleet itself have a root of their own."""

    def __init__(self, *, fleet: str = "acme", domains: Sequence[str] = ("prod", "lab")) -> None:
        self.fleet = fleet
        self.roots = {
            name: Authority.root(f"{fleet} {name} root") for name in (*domains, "bootstrap", "fleet")
        }
        self.devices = {name: self.roots[name].issuing(f"{fleet} {name} devices") for name in domains}
        self.claims = self.roots["bootstrap"].issuing(f"{fleet} claims")
        self.servers = self.roots["fleet"].issuing(f"{fleet} servers")
        self.services = self.roots["fleet"].issuing(f"{fleet} services")
        self.operators = self.roots["fleet"].issuing(f"{fleet} operators")

    def device(self, device_id: str, *, domain: str = "prod", not_after: datetime | None = None) -> Pair:
        return self.devices[domain].leaf(device_id, not_after=not_after)

    def claim(self, batch: str = "batch-1", *, not_after: datetime | None = None) -> Pair:
        return self.claims.leaf(batch, not_after=not_after)

    def service(self, name: str = "fleet-server") -> Pair:
        return self.services.leaf(name)

    def operator(self, name: str = "admin") -> Pair:
        return self.operators.leaf(name)

    def server(self, *hosts: str) -> Pair:
        return self.servers.leaf("server", usages=(_SERVER,), hosts=hosts or ("localhost", "127.0.0.1"))

    def canary(self) -> Pair:
        """Return a certificate that its issuer's CRL names from now on."""
        canary = self.services.leaf("canary")
        self.services.revoked.append(canary.certificate.serial_number)
        return canary


def entry_of(
    pair: Pair, name: str, *, purpose: Purpose = Purpose.DEVICE, not_after: datetime | None = None
) -> AllowlistEntry:
    """Return the allowlist entry of a leaf."""
    return AllowlistEntry(
        issuer=pair.issuer_id,
        serial=pair.serial,
        fingerprint=pair.fingerprint,
        name=name,
        purpose=purpose,
        not_after=not_after or lifetime(pair.certificate)[1],
    )


def self_signed(common_name: str) -> Pair:
    """Return a leaf that signed itself."""
    root = Authority.root(common_name)
    return root.leaf(common_name, key=root.key)


def bundle(folder: Path, name: str, *certificates: x509.Certificate) -> Path:
    """Write certificates into one PEM file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(b"".join(pem_of(certificate) for certificate in certificates))
    return path


def _authority_certificate(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    above: x509.Certificate | None,
    signed_with: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    now = utc_now()
    subject = _name(common_name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(next(_SERIALS))
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0 if above else None), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if above is not None:
        builder = builder.add_extension(_authority_key_identifier(above), critical=False)
    return builder.sign(signed_with, hashes.SHA256())


def _subject_key_identifier(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = _subject_key_identifier(issuer)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _alternative_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(names)


def _leaf_usage() -> x509.KeyUsage:
    return _usage(digital_signature=True)


def _authority_usage() -> x509.KeyUsage:
    return _usage(key_cert_sign=True)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
