"""The authorities of one fleet as they stand in its home: roots, issuing CAs, and who speaks for them.

Reads certificates at once and private keys at their first use. A root's key is never opened here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from device_agent.wire.secret import Secret
from fleet.ca.issuer import Issuer, fingerprint_of, issuer_id_of, pem_bundle
from fleet.ca.ocsp import Question, Responder
from fleet.ca.signers import FileSigner, rehearsal_key
from fleet.core.goodkey import CertifiedKey, certified_key
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.files import telling
from fleet.home import AuthorityFiles, Home, KeyPairFiles
from fleet.model import Purpose

FLEET_REALM = "fleet"
"""The root of servers, services, operators and stations."""
BOOTSTRAP_REALM = "bootstrap"
"""The root of claim certificates."""
_OWN_REALMS = frozenset({FLEET_REALM, BOOTSTRAP_REALM})
RESERVED_DOMAINS = frozenset({*_OWN_REALMS, *(purpose.value for purpose in Purpose)})
"""No domain has these names: realms of our own, and `<label>.<purpose>.<fleet>` is no device's dNSName."""

_UNREADABLE: tuple[type[Exception], ...] = (*UNREADABLE, RefusedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A trust anchor. Its key stays in its file; its CRL was made when the key was last at hand."""

    realm: str
    certificate: x509.Certificate
    crl: bytes
    """DER."""

    @property
    def anchor(self) -> str:
        """Hex SHA-256 of the DER, as trust anchors are named."""
        return fingerprint_of(self.certificate)

    @property
    def issuer_id(self) -> str:
        return issuer_id_of(self.certificate)

    @property
    def pem(self) -> str:
        return pem_bundle([self.certificate])


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSigner:
    """The time key of a domain: what it signs is believed by the domain's devices."""

    certificate_pem: str
    """Its certificate, then the issuing CA's."""
    signer: FileSigner

    def sign(self, message: bytes) -> bytes:
        """Return the signature (ECDSA with SHA-256, DER). Raises `FleetError`."""
        return self.signer.sign(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """All roots and issuing CAs of a fleet."""

    fleet: str
    roots: tuple[Root, ...]
    issuers: tuple[Issuer, ...]
    """Issuing CAs; of several for one purpose and domain, the last is the active one."""
    responders: tuple[Responder, ...]
    time_signers: tuple[tuple[str, TimeSigner], ...]

    def issuer(self, purpose: Purpose, domain: str = "") -> Issuer:
        """Return the active issuing CA; only device CAs are of a domain.

        Raises:
            NotFoundError: there is none.
        """
        found = [one for one in self.issuers if (one.purpose, one.domain) == (purpose, domain)]
        if not found:
            where = f" in domain {domain}" if domain else ""
            raise NotFoundError(
                f"there is no issuing CA for {purpose} certificates{where}", hint="fleet ca list"
            )
        return found[-1]

    def issuer_by_id(self, issuer_id: str) -> Issuer:
        """Return an issuing CA by its hex subject key identifier.

        Raises:
            NotFoundError: there is none.
        """
        for issuer in self.issuers:
            if issuer.issuer_id == issuer_id:
                return issuer
        raise NotFoundError("there is no such issuing CA", hint="fleet ca list")

    def root(self, realm: str) -> Root:
        """Return the root of a domain, of `bootstrap` or of `fleet`.

        Raises:
            NotFoundError: there is none.
        """
        for root in self.roots:
            if root.realm == realm:
                return root
        raise NotFoundError(f"there is no domain {realm}", hint="fleet domain list")

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(root.realm for root in self.roots if root.realm not in _OWN_REALMS)

    def trust_pem(self, domain: str) -> str:
        """Return the domain's trust anchors. Raises `NotFoundError`."""
        return self.root(domain).pem

    @property
    def server_trust_pem(self) -> str:
        """What servers, operators, stations and services are trusted by."""
        return self.root(FLEET_REALM).pem

    def link(self, domain: str, held: Sequence[str]) -> str | None:
        """Return a certificate of the domain's anchor signed by one of those `held`, if one is needed.

        An anchor is never replaced yet: whoever holds an earlier one does not exist, so there is no link.
        Raises `NotFoundError` where there is no such domain.
        """
        self.root(domain)
        return None

    def certificate(self, issuer_id: str) -> x509.Certificate:
        """Return the certificate of a root or issuing CA, as AIA offers it. Raises `NotFoundError`."""
        for root in self.roots:
            if root.issuer_id == issuer_id:
                return root.certificate
        return self.issuer_by_id(issuer_id).certificate

    def asked(self, question: Question) -> Responder | None:
        """Return who speaks for the CA that an OCSP question is about, or None."""
        return next((one for one in self.responders if one.speaks_for(question)), None)

    def time_signer(self, domain: str) -> TimeSigner:
        """Return the time key of a domain. Raises `NotFoundError`."""
        for name, signer in self.time_signers:
            if name == domain:
                return signer
        raise NotFoundError(f"domain {domain} has no time key", hint="fleet domain list")

    def unlock(self) -> None:
        """Open every issuing key, so that a wrong passphrase shows before the first request.

        Raises:
            NotFoundError, BadInputError: a key cannot be opened.
        """
        signers = [issuer.signer for issuer in self.issuers]
        signers += [responder.signer for responder in self.responders]
        signers += [time.signer for _, time in self.time_signers]
        for signer in signers:
            if isinstance(signer, FileSigner):
                signer.private_key()


def load_authority(home: Home, *, fleet: str, passphrase: Secret) -> Authority:
    """Read the authorities of a home; `passphrase` opens the issuing keys when they are needed.

    Raises:
        NotFoundError, BadInputError: a certificate is missing or damaged.
    """
    roots: list[Root] = []
    issuers: list[Issuer] = []
    responders: list[Responder] = []
    time_signers: list[tuple[str, TimeSigner]] = []
    for realm in _folders(home.ca):
        root = _load_root(home.authority(realm.name), realm.name)
        roots.append(root)
        for folder in _folders(realm):
            files = AuthorityFiles(folder=folder)
            issuer = _load_issuer(files, root, fleet, passphrase)
            issuers.append(issuer)
            responders.append(_load_responder(files, issuer, passphrase))
            if files.time.certificate.exists():
                time_signers.append((issuer.domain, _load_time_signer(files, issuer, passphrase)))
    return Authority(
        fleet=fleet,
        roots=tuple(roots),
        issuers=tuple(issuers),
        responders=tuple(responders),
        time_signers=tuple(time_signers),
    )


def load_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file.

    Raises:
        BadInputError: it cannot be read.
    """
    with telling(path):
        content = path.read_bytes()
    try:
        return x509.load_pem_x509_certificate(content)
    except UNREADABLE as error:
        raise BadInputError(f"{path} holds no certificate", hint="restore it from the backup") from error


def _folders(path: Path) -> Iterator[Path]:
    with telling(path):
        folders = [one for one in path.iterdir() if one.is_dir()]
    yield from sorted(folders, key=_in_order)


def _in_order(folder: Path) -> tuple[str, int]:
    purpose, _, number = folder.name.rpartition("-")
    return (purpose, int(number)) if number.isdecimal() else (folder.name, 0)


def _load_root(files: AuthorityFiles, realm: str) -> Root:
    with telling(files.crl):
        crl = files.crl.read_bytes()
    return Root(realm=realm, certificate=load_certificate(files.ca.certificate), crl=crl)


def _load_issuer(files: AuthorityFiles, root: Root, fleet: str, passphrase: Secret) -> Issuer:
    certificate = load_certificate(files.ca.certificate)
    purpose = _purpose(files.folder)
    signer = _signer(files.ca, certificate, passphrase)
    return Issuer(
        certificate=certificate,
        signer=signer,
        purpose=purpose,
        fleet=fleet,
        domain=root.realm if purpose is Purpose.DEVICE else "",
        anchor=root.anchor,
        rehearsal=rehearsal_key(signer.public_key),
    )


def _load_responder(files: AuthorityFiles, issuer: Issuer, passphrase: Secret) -> Responder:
    certificate = load_certificate(files.ocsp.certificate)
    signer = _signer(files.ocsp, certificate, passphrase)
    return Responder(issuer=issuer.certificate, certificate=certificate, signer=signer)


def _load_time_signer(files: AuthorityFiles, issuer: Issuer, passphrase: Secret) -> TimeSigner:
    certificate = load_certificate(files.time.certificate)
    return TimeSigner(
        certificate_pem=pem_bundle([certificate, issuer.certificate]),
        signer=_signer(files.time, certificate, passphrase),
    )


def _signer(files: KeyPairFiles, certificate: x509.Certificate, passphrase: Secret) -> FileSigner:
    return FileSigner(
        files.key, passphrase=passphrase, public_key=_public_key(certificate, files.certificate)
    )


def _public_key(certificate: x509.Certificate, path: Path) -> CertifiedKey:
    try:
        return certified_key(certificate.public_key())
    except _UNREADABLE as error:
        raise BadInputError(f"{path} has a key that is not used here", hint="restore it") from error


def _purpose(folder: Path) -> Purpose:
    try:
        return Purpose(folder.name.rpartition("-")[0])
    except ValueError as error:
        raise BadInputError(
            f"{folder} is not named after a purpose and a number", hint="such as device-1"
        ) from error
