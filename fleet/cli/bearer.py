"""Renews a certificate whose key stays with its bearer: an operator.

The key is made here and never leaves; certificate and key are replaced in one step, and only then the server
is told that the ones before may end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from fleet.cli.client import Client
from fleet.core.due import is_due
from fleet.core.goodkey import CertifiedKey
from fleet.core.profile import DEFAULT_PROFILES
from fleet.errors import BadInputError, FleetError
from fleet.home import KeyPairFiles
from fleet.model import Purpose
from fleet.pair_files import Content, pair_content, switch


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that is to be certified: its request and itself, PEM."""

    csr: str
    public_key: CertifiedKey
    kept: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """A certificate that has just come into use."""

    serial: str
    certificate_pem: str
    key_pem: str = field(repr=False)
    not_after: str


BesideOf: TypeAlias = Callable[[Renewed], dict[Path, Content]]


def read_certificate(path: Path) -> x509.Certificate:
    """Return the certificate that a file begins with. Raises `BadInputError`."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} holds no certificate that can be read") from error


def reminder(certificate: Path, *, now: datetime) -> str | None:
    """Return what an operator is to be told about the certificate that he shows, if anything."""
    try:
        found = read_certificate(certificate)
    except FleetError:
        return None  # whoever is asked will say more
    if not is_due(found, DEFAULT_PROFILES[Purpose.OPERATOR], now=now) or now >= found.not_valid_after_utc:
        return None
    return f"your certificate ends {found.not_valid_after_utc:%Y-%m-%d}; renew it: fleet operator renew"


def made_here(name: str) -> NewKey:
    """Make a key that is to be kept in a file."""
    return _new_key(name, ec.generate_private_key(ec.SECP256R1()))


def _new_key(name: str, key: ec.EllipticCurvePrivateKey) -> NewKey:
    csr = x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, hashes.SHA256())
    return NewKey(
        csr=csr.public_bytes(Encoding.PEM).decode(),
        public_key=key.public_key(),
        kept=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )


def kept_key(name: str, pem: str) -> NewKey:
    """Return a key that was made here before, with a request anew. Raises `ValueError`."""
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("no key of ours")
    return _new_key(name, key)


def renew(
    client: Client,
    *address: str,
    files: KeyPairFiles,
    beside_of: BesideOf | None = None,
) -> Renewed:
    """Get the next certificate for a new key, and put both in place of those in use.

    What `beside_of` returns is replaced in the same step.

    Raises:
        FleetError: the server refused, or the files cannot be written; those in use stay.
    """
    key = made_here(address[-1])
    made = client.post(*address, "renew", body={"csr": key.csr})
    renewed = Renewed(
        serial=str(made["serial"]),
        certificate_pem=str(made["certificate"]),
        key_pem=key.kept,
        not_after=str(made["not_after"]),
    )
    if x509.load_pem_x509_certificate(renewed.certificate_pem.encode()).public_key() != key.public_key:
        raise FleetError("the server answered with a certificate for another key", hint="nothing was changed")
    beside = {} if beside_of is None else beside_of(renewed)
    switch(_content(files, renewed) | beside, named=files.certificate)
    return renewed


def _content(files: KeyPairFiles, renewed: Renewed) -> dict[Path, Content]:
    if files.certificate == files.key:
        return {files.key: Content(data=(renewed.key_pem + renewed.certificate_pem).encode())}
    return pair_content(files, key_pem=renewed.key_pem.encode(), certificate_pem=renewed.certificate_pem)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
