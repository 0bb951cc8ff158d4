"""A fleet that lives as long as one run of the kit: its CAs, a station, and whatever a device is to be given.

Its keys are in memory only. It can also make what no fleet would: that is what devices have to refuse.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.wire.identity import Identity, dns_name
from device_agent.wire.replies import BrokerAddress
from fleet.station.keeping.package import Issuance, IssueOrder, Package, pack

FLEET = "conform"
DOMAIN = "prod"
_LIFETIME = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sign(self, message: bytes) -> bytes:
        """Return an ECDSA signature with SHA-256, in DER."""
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Two roots: of the domain's devices, and of servers and stations."""

    devices_root: Pair
    devices: Pair
    servers_root: Pair
    servers: Pair
    station: Pair
    stranger: Pair
    """A station of another fleet."""
    strangers: Pair
    """Who issued its certificate."""

    @classmethod
    def opened(cls) -> Self:
        """Make all keys and certificates."""
        devices_root, servers_root = _root("conform devices root"), _root("conform servers root")
        servers = _issuing(servers_root, "conform servers")
        foreign = _issuing(_root("stranger root"), "stranger servers")
        name = f"kit.station.{FLEET}"
        return cls(
            devices_root=devices_root,
            devices=_issuing(devices_root, "conform devices"),
            servers_root=servers_root,
            servers=servers,
            station=_leaf(servers, "kit", hosts=(name,), key=None),
            stranger=_leaf(foreign, "kit", hosts=(name,), key=None),
            strangers=foreign,
        )

    def server(self, host: str) -> Pair:
        """Return a server's certificate for a host name or address."""
        return _leaf(self.servers, host, hosts=(host,), key=None, is_server=True)

    def claim(self) -> Pair:
        """Return a claim certificate, as a domain's public one."""
        return _leaf(self.servers, "public-claim", hosts=(), key=None)

    def device(
        self, device_id: str, key: CertificatePublicKeyTypes, *, issuer: Pair | None = None
    ) -> x509.Certificate:
        """Return a leaf for a device's key."""
        hosts = (dns_name(Identity(domain=DOMAIN, device_id=device_id), fleet=FLEET),)
        return _leaf(issuer or self.devices, device_id, hosts=hosts, key=key).certificate

    def package(self, *, hardware_id: str, device_id: str, csr: bytes, leaf: x509.Certificate) -> Package:
        """Return what a station would bring a unit."""
        order = IssueOrder(device_id=device_id, hardware_id=hardware_id, csr=csr)
        issuance = Issuance(
            serial=f"{leaf.serial_number:032x}",
            chain=(leaf.public_bytes(Encoding.DER), self.devices.der),
            anchors=(self.devices_root.der,),
            servers=(self.servers_root.der,),
            renew_after=now() + _LIFETIME * 2 / 3,
            broker=BrokerAddress(host="localhost", port=8883, name=f"{DOMAIN}:{device_id}"),
        )
        return pack(order, issuance)


def now() -> datetime:
    """Return the time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def _root(name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key.public_key(), issuer=_name(name)).add_extension(
        x509.BasicConstraints(ca=True, path_length=1), critical=True
    )
    return _signed(_as_ca(builder, key.public_key()), key, by=key)


def _issuing(root: Pair, name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key.public_key(), issuer=root.certificate.subject).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    builder = _as_ca(builder, key.public_key()).add_extension(_issued_by(root), critical=False)
    return _signed(builder, key, by=root.key)


def _as_ca(builder: x509.CertificateBuilder, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return builder.add_extension(_usage(is_ca=True), critical=True).add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key), critical=False
    )


def _leaf(
    issuer: Pair,
    name: str,
    *,
    hosts: tuple[str, ...],
    key: CertificatePublicKeyTypes | None,
    is_server: bool = False,
) -> Pair:
    own = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if is_server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(name, key or own.public_key(), issuer=issuer.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(_issued_by(issuer), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key or own.public_key()), critical=False)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return _signed(builder, own, by=issuer.key)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(name: str, key: CertificatePublicKeyTypes, *, issuer: x509.Name) -> x509.CertificateBuilder:
    serial = int.from_bytes(b"\x41" + secrets.token_bytes(15))
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(now() - timedelta(hours=1))
        .not_valid_after(now() + _LIFETIME)
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, *, by: ec.EllipticCurvePrivateKey
) -> Pair:
    return Pair(key=key, certificate=builder.sign(by, hashes.SHA256()))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _issued_by(issuer: Pair) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
