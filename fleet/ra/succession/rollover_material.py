"""The second half of a rollover's preparation: what was signed has come, is judged, and stands by.

Nothing is trusted and nothing signs because of it. Whoever is cut off brings the same again.
"""

import asyncio
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from device_agent.wire.trust import TrustBundle
from fleet.ca.crl import read_crl
from fleet.ca.issuer import IssuedCertificate, fingerprint_of, issued_of, issuer_id_of, pem_bundle
from fleet.ca.succession import LINK_PROFILE, require_signed
from fleet.core.authority import AuthorityRecord, AuthorityState, KeyKind
from fleet.core.profile import ROOT_PROFILE
from fleet.core.rollover import OPEN, Rollover, RolloverEvent, RolloverKind, RolloverState, after
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.home import AuthorityFiles
from fleet.model import Certificate, CertificateState, Purpose
from fleet.ports import Transaction
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.authority.certified_authority import Certification, certify_authority
from fleet.ra.authority_changes import find
from fleet.ra.context import Context
from fleet.ra.issue_own import signed_record
from fleet.ra.succession.rollover import rollover_entry
from fleet.store import audit
from fleet.store.authorities import insert_authority
from fleet.store.certificates import CertificateRecord, insert_certificate, load_certificate
from fleet.store.rollovers import newest_rollover, save_rollover
from fleet.store.trust import insert_bundles

_UNREADABLE: tuple[type[Exception], ...] = (
    *UNREADABLE,
    InvalidSignature,
    x509.ExtensionNotFound,
    RefusedError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRoot:
    """A root that follows another, with all that both have signed for it."""

    certificate_pem: str
    crl: bytes
    """DER."""
    link_pem: str
    back_pem: str
    bundles: tuple[TrustBundle, ...]
    """First the one with both roots, then the one with the new root alone; none where no device trusts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was signed: the certificates of issuing CAs by their names, and the new root if there is one."""

    certificates: tuple[tuple[str, str], ...]
    root: NewRoot | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Root:
    """A new root that was judged."""

    certificate: x509.Certificate
    link: x509.Certificate
    back: x509.Certificate
    old: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What one commit records of a new root."""

    record: AuthorityRecord
    certificates: tuple[CertificateRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finish:
    """The commit that ends a preparation."""

    rollover: Rollover
    bundles: tuple[TrustBundle, ...]
    actor: str


async def complete(context: Context, realm: str, material: Material, *, actor: str) -> Rollover:
    """Take what was signed for the rollover of a realm.

    Raises:
        NotFoundError: nothing of the realm waits for a signature.
        BadInputError: something is not what it should be; what was taken before it stays.
    """
    rollover = await context.store.read(newest_rollover, realm)
    if rollover is None or rollover.state not in OPEN:
        raise NotFoundError(
            f"nothing of {realm} waits for its root", hint=f"fleet ca rollover prepare {realm}"
        )
    if rollover.state is not RolloverState.REQUESTED:
        return rollover
    bundles = await _take_root(context, rollover, material.root)
    for name, pem in material.certificates:
        await _take_issuing(context, rollover, name, pem, actor=actor)
    await _require_all(context, rollover)
    now = context.clock().replace(microsecond=0)
    prepared = replace(rollover, state=after(rollover, RolloverEvent.PREPARE), changed_at=now)
    return await context.store.write(_finish, _Finish(rollover=prepared, bundles=bundles, actor=actor))


async def _take_issuing(context: Context, rollover: Rollover, name: str, pem: str, *, actor: str) -> None:
    record = await context.store.read(find, name)
    if name not in rollover.brings:
        raise BadInputError(f"the CA {name} takes no part in this rollover", hint="fleet ca rollover status")
    if record.state is AuthorityState.REQUESTED:
        await certify_authority(context, Certification(name=name, chain_pem=pem, actor=actor))


async def _require_all(context: Context, rollover: Rollover) -> None:
    """Check that nothing is left that waits for a signature."""
    for name in rollover.brings:
        if (await context.store.read(find, name)).state is AuthorityState.REQUESTED:
            raise BadInputError(
                f"the certificate of {name} is missing", hint=f"fleet ca rollover prepare {rollover.realm}"
            )


async def _take_root(context: Context, rollover: Rollover, new: NewRoot | None) -> tuple[TrustBundle, ...]:
    """Take the new root in; return the bundles that it has signed."""
    if (rollover.kind is RolloverKind.ROOT) != (new is not None):
        raise BadInputError(
            f"the {rollover.kind} rollover of {rollover.realm} needs another kind of material"
        )
    if new is None:
        return ()
    old = next(one for one in context.authority.roots if one.record.folder == rollover.gives_up[0])
    judged = _judged(new, old.certificate)
    _judge_bundles(context, rollover, new, judged)
    async with context.in_force.changing:
        files = context.home.authority_files(rollover.brings[0])
        await asyncio.to_thread(_write, files, new)
        await context.store.write(_record, _taken(context, rollover, judged))
    await reload_authority(context)
    return new.bundles


def _judged(new: NewRoot, old: x509.Certificate) -> _Root:
    """Read a new root and its links; raises `BadInputError` where they do not hang together."""
    try:
        root, link, back = (
            x509.load_pem_x509_certificate(pem.encode())
            for pem in (new.certificate_pem, new.link_pem, new.back_pem)
        )
        root.verify_directly_issued_by(root)
        link.verify_directly_issued_by(old)
        back.verify_directly_issued_by(root)
        read_crl(new.crl, root)
        is_ca = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        same = [(link.subject, link.public_key()), (back.subject, back.public_key())]
        is_whole = same == [(root.subject, root.public_key()), (old.subject, old.public_key())]
    except _UNREADABLE as error:
        raise BadInputError("the new root and its links do not verify", hint="prepare it again") from error
    if not is_ca or not is_whole or root.subject == old.subject:
        raise BadInputError("a link is for another root than the one that it names", hint="prepare it again")
    return _Root(certificate=root, link=link, back=back, old=old)


def _judge_bundles(context: Context, rollover: Rollover, new: NewRoot, root: _Root) -> None:
    wanted = () if rollover.version is None else (rollover.version, rollover.version + 1)
    if tuple(bundle.version for bundle in new.bundles) != wanted:
        raise BadInputError(
            f"the trust bundles of {rollover.realm} must be {wanted}", hint="prepare it again"
        )
    for bundle in new.bundles:
        if bundle.realm != rollover.realm:
            raise BadInputError(f"a trust bundle is of {bundle.realm}, not of {rollover.realm}")
        require_signed(bundle, fleet=context.fleet, signer=root.certificate)


def _write(files: AuthorityFiles, new: NewRoot) -> None:
    make_folder(files.folder)
    write_file(files.link, new.link_pem.encode(), mode=PUBLIC_MODE)
    write_file(files.link_back, new.back_pem.encode(), mode=PUBLIC_MODE)
    write_file(files.crl, new.crl, mode=PUBLIC_MODE)
    root = x509.load_pem_x509_certificate(new.certificate_pem.encode())
    write_file(files.ca.certificate, pem_bundle([root]).encode(), mode=PUBLIC_MODE)


def _taken(context: Context, rollover: Rollover, root: _Root) -> _Taken:
    now = context.clock().replace(microsecond=0)
    in_token = context.home.authority_files(rollover.brings[0]).token.exists()
    record = AuthorityRecord(
        folder=rollover.brings[0],
        issuer=issuer_id_of(root.certificate),
        realm=rollover.realm,
        purpose=Purpose.AUTHORITY,
        state=AuthorityState.STANDBY,
        key=KeyKind.TOKEN if in_token else KeyKind.FILE,
        added_at=now,
        changed_at=now,
    )
    old, new = root.old, root.certificate
    made = (
        (_issued(new, by=new), ROOT_PROFILE.name),
        (_issued(root.link, by=old), LINK_PROFILE.name),
        (_issued(root.back, by=new), LINK_PROFILE.name),
    )
    name = record.folder
    return _Taken(
        record=record,
        certificates=tuple(_certificate(issued, profile, record, name=name) for issued, profile in made),
    )


def _issued(certificate: x509.Certificate, *, by: x509.Certificate) -> IssuedCertificate:
    return issued_of(certificate, anchor=fingerprint_of(by), issuer_id=issuer_id_of(by))


def _certificate(
    issued: IssuedCertificate, profile: str, record: AuthorityRecord, *, name: str
) -> CertificateRecord:
    return CertificateRecord(
        life=Certificate(
            serial=issued.serial,
            key_hash=issued.key_hash,
            state=CertificateState.ACTIVE,
            anchor=issued.anchor,
        ),
        purpose=Purpose.AUTHORITY,
        name=name if profile == ROOT_PROFILE.name else f"{name} {profile}",
        issuer=issued.issuer_id,
        created_at=record.added_at,
        changed_at=record.added_at,
        signed=signed_record(issued, profile=profile),
    )


async def _record(tx: Transaction, taken: _Taken) -> None:
    """Record a new root; one that was recorded before a cut is left as it is."""
    if await load_certificate(tx, taken.certificates[0].serial) is not None:
        return
    await insert_authority(tx, taken.record)
    for certificate in taken.certificates:
        await insert_certificate(tx, certificate)


async def _finish(tx: Transaction, finish: _Finish) -> Rollover:
    await insert_bundles(tx, finish.bundles)
    await save_rollover(tx, finish.rollover)
    await audit.append(tx, rollover_entry(finish.rollover, actor=finish.actor))
    return finish.rollover
