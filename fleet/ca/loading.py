"""Reads the authorities of a home: certificates at once, private keys at their first use.

The store says which there are and where each stands; the files say what they are. A root's key is never
opened here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from fleet.ca.hierarchy import Above, Authority, Root, TimeSigner
from fleet.ca.issuer import Issuer, issuer_id_of, pem_bundle
from fleet.ca.keyring import KeyRing
from fleet.ca.ocsp import Responder
from fleet.ca.signers import FileSigner
from fleet.core.authority import ADMITTED, UNCERTIFIED, AuthorityRecord, AuthorityState, KeyKind, in_order
from fleet.core.goodkey import CertifiedKey, certified_key
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, RefusedError
from fleet.files import telling
from fleet.home import AuthorityFiles, Home, KeyPairFiles
from fleet.model import Purpose
from fleet.pair_files import in_force

_UNREADABLE: tuple[type[Exception], ...] = (*UNREADABLE, RefusedError)
_NOT_SIGNED: tuple[type[Exception], ...] = (*UNREADABLE, InvalidSignature)


def load_authority(home: Home, *, fleet: str, keys: KeyRing, records: Sequence[AuthorityRecord]) -> Authority:
    """Read the authorities on record; `keys` opens the issuing keys when they are needed.

    Raises:
        NotFoundError, BadInputError: a certificate is missing or damaged.
    """
    known = sorted((one for one in records if one.state not in UNCERTIFIED), key=in_order)
    roots = [_load_root(home.authority_files(one.folder), one) for one in known if one.is_root]
    issuers: list[Issuer] = []
    responders: list[Responder] = []
    time_signers: list[tuple[str, TimeSigner]] = []
    for record in known:
        if record.is_root:
            continue
        files = home.authority_files(record.folder)
        issuer = _load_issuer(files, record, _Below(roots=roots, fleet=fleet, keys=keys))
        issuers.append(issuer)
        responders.append(_load_responder(files, issuer, keys))
        if issuer.state in ADMITTED and files.time.certificate.exists():
            time_signers.append((issuer.domain, _load_time_signer(files, issuer, keys)))
    return Authority(
        fleet=fleet,
        records=tuple(sorted(records, key=in_order)),
        roots=tuple(roots),
        issuers=tuple(issuers),
        responders=tuple(responders),
        time_signers=tuple(time_signers),
        above=tuple(_load_above(home, issuers)),
    )


def records_of_files(home: Home, *, at: datetime) -> tuple[AuthorityRecord, ...]:
    """Return the records of a home whose store has none yet: all that is there is active.

    Raises:
        NotFoundError, BadInputError: a certificate is missing or damaged, or a folder has no name of ours.
    """
    found: list[AuthorityRecord] = []
    for realm in _folders(home.ca):
        found.append(_record(realm, realm.name, at=at))
        found += [_record(folder, realm.name, at=at) for folder in _folders(realm)]
    return tuple(sorted(found, key=in_order))


def load_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file. Raises `BadInputError`."""
    return load_certificates(path)[0]


def load_certificates(path: Path) -> list[x509.Certificate]:
    """Read all certificates of a PEM file, at least one.

    Raises:
        BadInputError: it cannot be read.
    """
    with telling(path):
        content = path.read_bytes()
    try:
        return x509.load_pem_x509_certificates(content)
    except UNREADABLE as error:
        raise BadInputError(f"{path} holds no certificate", hint="restore it from the backup") from error


def _folders(path: Path) -> Iterator[Path]:
    with telling(path):
        folders = [one for one in path.iterdir() if one.is_dir() and not one.name.startswith(".")]
    yield from sorted(folders)


def _record(folder: Path, realm: str, *, at: datetime) -> AuthorityRecord:
    files = AuthorityFiles(folder=folder)
    certificate = load_certificate(files.ca.certificate)
    is_root = folder.name == realm
    return AuthorityRecord(
        folder=realm if is_root else f"{realm}/{folder.name}",
        issuer=issuer_id_of(certificate),
        realm=realm,
        purpose=Purpose.AUTHORITY if is_root else _purpose(folder),
        state=AuthorityState.ACTIVE,
        key=KeyKind.TOKEN if files.token.exists() else KeyKind.FILE,
        added_at=at,
        changed_at=at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Below:
    """What an issuing CA hangs on."""

    roots: Sequence[Root]
    fleet: str
    keys: KeyRing


def _load_root(files: AuthorityFiles, record: AuthorityRecord) -> Root:
    certificate = load_certificate(files.ca.certificate)
    link = load_certificate(files.link) if files.link.exists() else None
    if record.key is KeyKind.ELSEWHERE and not files.crl.exists():
        return Root(record=record, certificate=certificate, crl=None, link=link)
    with telling(files.crl):
        return Root(record=record, certificate=certificate, crl=files.crl.read_bytes(), link=link)


def _load_issuer(files: AuthorityFiles, record: AuthorityRecord, below: _Below) -> Issuer:
    certificate, *chain = load_certificates(files.ca.certificate)
    public_key = _public_key(certificate, files.ca.certificate)
    signer = below.keys.authority(files, record.key, public_key)
    top = chain[-1] if chain else certificate
    return Issuer(
        certificate=certificate,
        chain=tuple(chain),
        signer=signer,
        purpose=record.purpose,
        fleet=below.fleet,
        domain=record.domain,
        state=record.state,
        anchor=_root_of(top, record, below.roots).anchor,
        rehearsal=below.keys.rehearsal(signer.public_key),
    )


def _load_above(home: Home, issuers: Sequence[Issuer]) -> Iterator[Above]:
    for certificate in dict.fromkeys(one for issuer in issuers for one in issuer.chain):
        path = home.foreign_list(issuer_id_of(certificate))
        with telling(path):
            crl = path.read_bytes() if path.exists() else None
        yield Above(certificate=certificate, crl=crl)


def _root_of(top: x509.Certificate, record: AuthorityRecord, roots: Sequence[Root]) -> Root:
    """Return the root of the realm that signed the topmost certificate of a chain."""
    for root in roots:
        if root.realm == record.realm and _is_signed_by(top, root.certificate):
            return root
    raise BadInputError(
        f"the CA {record.folder} hangs on no root of {record.realm}", hint="restore it from the backup"
    )


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except _NOT_SIGNED:
        return False
    return True


def _load_responder(files: AuthorityFiles, issuer: Issuer, keys: KeyRing) -> Responder:
    pair = in_force(files.ocsp)
    certificate = load_certificate(pair.certificate)
    return Responder(
        issuer=issuer.certificate, certificate=certificate, signer=_signer(pair, certificate, keys)
    )


def _load_time_signer(files: AuthorityFiles, issuer: Issuer, keys: KeyRing) -> TimeSigner:
    pair = in_force(files.time)
    certificate = load_certificate(pair.certificate)
    return TimeSigner(
        certificate_pem=pem_bundle([certificate, issuer.certificate, *issuer.chain]),
        signer=_signer(pair, certificate, keys),
    )


def _signer(files: KeyPairFiles, certificate: x509.Certificate, keys: KeyRing) -> FileSigner:
    return keys.file(files.key, _public_key(certificate, files.certificate))


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
