"""A new issuing CA, second step: the certificate has come. It is judged, its signers are made, it stands by.

Whoever is killed in between finds the CA as it was before, waiting for its certificate; the step is repeated.
"""

import asyncio
from dataclasses import dataclass, replace

from cryptography import x509

from fleet.ca.founding import Founded
from fleet.ca.imported import ImportedChain, Wanted, judge_chain, read_chain
from fleet.ca.issuer import Issuer, fingerprint_of, issued_of, issuer_id_of, pem_bundle
from fleet.ca.signers import make_authority_key
from fleet.core.authority import (
    AuthorityEvent,
    AuthorityRecord,
    AuthorityState,
    KeyKind,
    after,
    issuing_name,
    signer_name,
)
from fleet.core.goodkey import CertifiedKey, KeyType, certified_key
from fleet.core.profile import ISSUING_PROFILE, OCSP_PROFILE, TIME_PROFILE, authority_applicant
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError
from fleet.files import PUBLIC_MODE, make_folder, telling, write_file
from fleet.home import AuthorityFiles, Home
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.authority.beginning import founded_record
from fleet.ra.authority_changes import Change, entry, find
from fleet.ra.context import Context
from fleet.ra.issue_own import Order, OwnRequest, carry_out
from fleet.ra.people.batches import surroundings
from fleet.store import audit
from fleet.store.authorities import insert_authority, save_authority
from fleet.store.certificates import CertificateRecord, insert_certificate

_KEY_FILE_RANDOMNESS = 32
_GIVEN_UP = frozenset({AuthorityState.RETIRED, AuthorityState.COMPROMISED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Certification:
    """What a CA above has made of a request."""

    name: str
    """The folder or the issuer id of the CA that asked."""
    chain_pem: str
    """Its certificate, then those above it, the root last or left out."""
    anchor_pem: str = ""
    """A root that is to be trusted, where it is not one of the realm's."""
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Certified:
    """What one commit records."""

    record: AuthorityRecord
    root: AuthorityRecord | None
    """A root that was not known before."""
    certificate: CertificateRecord | None
    """Of ours, where a root of ours has signed it."""
    chain: ImportedChain
    actor: str


async def certify_authority(context: Context, certification: Certification) -> AuthorityRecord:
    """Take the certificate of a CA that waits for it; from then on the CA stands by.

    Raises:
        NotFoundError: there is no such CA.
        RefusedError: it does not wait for a certificate.
        BadInputError: the chain is not good for us, with the rule that it breaks.
    """
    async with context.in_force.changing:
        before = await context.store.read(find, certification.name)
        if _is_done(context, before, certification):
            return before
        certified = await _certify(context, before, certification)
    await reload_authority(context)
    return certified.record


def _is_done(context: Context, before: AuthorityRecord, certification: Certification) -> bool:
    """Tell whether this very certificate was taken before."""
    have = {issuer.issuer_id: issuer.certificate for issuer in context.authority.issuers}
    return have.get(before.issuer) == read_chain(certification.chain_pem)[0]


async def _certify(context: Context, before: AuthorityRecord, certification: Certification) -> _Certified:
    state = after(before, AuthorityEvent.CERTIFIED)
    chain = _judged(context, before, certification)
    now = context.clock().replace(microsecond=0)
    record = replace(before, issuer=issuer_id_of(chain.certificate), state=state, changed_at=now)
    root = _root_record(context, record, chain)
    await _make_signers(context, record, _issuer(context, record, chain), actor=certification.actor)
    await asyncio.to_thread(_write, context.home, record, chain, root)
    certified = _Certified(
        record=record,
        root=root,
        certificate=_certificate_record(context, record, chain),
        chain=chain,
        actor=certification.actor,
    )
    await context.store.write(_record, certified)
    return certified


def _judged(context: Context, before: AuthorityRecord, certification: Certification) -> ImportedChain:
    named = read_chain(certification.anchor_pem) if certification.anchor_pem else ()
    believed = [root for root in context.authority.roots if root.realm == before.realm]
    wanted = Wanted(
        public_key=_requested_key(context.home.authority_files(before.folder)),
        purpose=before.purpose,
        suffix=_suffix(context, before),
        anchors=(*(root.certificate for root in believed if root.state not in _GIVEN_UP), *named),
        now=context.clock(),
    )
    return judge_chain(read_chain(certification.chain_pem), wanted)


def _suffix(context: Context, record: AuthorityRecord) -> str:
    """Return what the names of its leaves end in."""
    if record.purpose is Purpose.SERVER:
        return context.config.server.host
    return f"{record.domain or record.purpose}.{context.fleet}"


def _requested_key(files: AuthorityFiles) -> CertifiedKey:
    with telling(files.request):
        content = files.request.read_bytes()
    try:
        return certified_key(x509.load_pem_x509_csr(content).public_key())
    except UNREADABLE as error:
        raise BadInputError(f"{files.request} is no request", hint="restore it from the backup") from error


def _root_record(context: Context, record: AuthorityRecord, chain: ImportedChain) -> AuthorityRecord | None:
    """Return the record of a root that was not known before, or None."""
    known = [root for root in context.authority.roots if root.realm == record.realm]
    if any(root.certificate == chain.root for root in known):
        return None
    numbers = [root.record.folder.rpartition("-")[2] for root in known]
    number = 1 + max([1, *(int(number) for number in numbers if number.isdecimal())])
    return replace(
        record,
        folder=f"{record.realm}/root-{number}",
        issuer=issuer_id_of(chain.root),
        purpose=Purpose.AUTHORITY,
        state=AuthorityState.STANDBY,
        key=KeyKind.ELSEWHERE,
        room=None,
        added_at=record.changed_at,
    )


def _issuer(context: Context, record: AuthorityRecord, chain: ImportedChain) -> Issuer:
    files, public_key = context.home.authority_files(record.folder), chain.certificate.public_key()
    signer = context.in_force.keys.authority(files, record.key, certified_key(public_key))
    return Issuer(
        certificate=chain.certificate,
        chain=chain.above,
        signer=signer,
        purpose=record.purpose,
        fleet=context.fleet,
        domain=record.domain,
        state=record.state,
        anchor=fingerprint_of(chain.root),
        rehearsal=context.in_force.keys.rehearsal(signer.public_key),
    )


async def _make_signers(context: Context, record: AuthorityRecord, issuer: Issuer, *, actor: str) -> None:
    """Make who speaks for it: the OCSP responder, and the time key where it is a domain's."""
    files = context.home.authority_files(record.folder)
    profiles = {files.ocsp: OCSP_PROFILE}
    if record.purpose is Purpose.DEVICE:
        profiles[files.time] = TIME_PROFILE
    domain = context.config.domain(record.realm)
    for pair, profile in profiles.items():
        # Time is signed for agents, which verify ECDSA.
        own = KeyType.P256 if domain is None or profile is TIME_PROFILE else domain.ca_key
        key = make_authority_key(own)
        name = signer_name(record, profile.name, fleet=context.fleet)
        order = Order(
            request=OwnRequest(purpose=profile.purpose, name=name, actor=actor, domain=record.domain),
            issuer=issuer,
            profile=profile,
            applicant=authority_applicant(name, fleet=context.fleet),
            public_key=key.public_key(),
        )
        certified = await carry_out(surroundings(context), order, now=record.changed_at)
        sealed = context.in_force.keys.seal(key, randomness=context.randomness(_KEY_FILE_RANDOMNESS))
        write_file(pair.key, sealed)
        write_file(pair.certificate, certified.issued.pem.encode(), mode=PUBLIC_MODE)


def _write(home: Home, record: AuthorityRecord, chain: ImportedChain, root: AuthorityRecord | None) -> None:
    if root is not None:
        files = home.authority_files(root.folder)
        make_folder(files.folder)
        write_file(files.ca.certificate, pem_bundle([chain.root]).encode(), mode=PUBLIC_MODE)
    place = home.authority_files(record.folder).ca.certificate
    write_file(place, pem_bundle([chain.certificate, *chain.above]).encode(), mode=PUBLIC_MODE)


def _certificate_record(
    context: Context, record: AuthorityRecord, chain: ImportedChain
) -> CertificateRecord | None:
    """Return what is kept of a certificate that a root of ours has signed; others' are theirs to keep."""
    ours = [root for root in context.authority.roots if root.record.key is not KeyKind.ELSEWHERE]
    if chain.above or chain.root not in [root.certificate for root in ours]:
        return None
    issued = issued_of(
        chain.certificate, anchor=fingerprint_of(chain.root), issuer_id=issuer_id_of(chain.root)
    )
    founded = Founded(
        issued=issued,
        name=issuing_name(record, fleet=context.fleet),
        profile=ISSUING_PROFILE.name,
        purpose=Purpose.AUTHORITY,
        domain=record.domain,
    )
    return founded_record(founded, record.changed_at)


async def _record(tx: Transaction, certified: _Certified) -> None:
    record, chain = certified.record, certified.chain
    told = (
        ("fingerprint", fingerprint_of(chain.certificate)),
        ("signed_by", chain.certificate.issuer.rfc4514_string()),
        ("anchor", fingerprint_of(chain.root)),
    )
    what = Change(name=record.folder, actor=certified.actor, at=record.changed_at, details=told)
    if certified.root is not None:
        await insert_authority(tx, certified.root)
        await audit.append(tx, entry(certified.root, "authority.added", what))
    if certified.certificate is not None:
        await insert_certificate(tx, certified.certificate)
    await save_authority(tx, record)
    await audit.append(tx, entry(record, "authority.certified", what))
