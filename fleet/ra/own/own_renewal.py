"""Renews the certificates of our own whose keys the home holds, each with a new key, long before its end.

The order is what keeps everybody connected: intent, signature, admission at the brokers, both files in one
step, then all who hold them read again. What was there before is superseded an hour later.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from device_agent.wire.identity import serial_hex
from fleet.ca.issuer import Issuer
from fleet.ca.signers import make_authority_key, make_key
from fleet.core.authority import ISSUES
from fleet.core.due import is_due
from fleet.core.goodkey import check_key
from fleet.core.profile import authority_applicant
from fleet.errors import FleetError
from fleet.model import CertificateState, Purpose
from fleet.pair_files import Content, pair_content, switch
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.context import Context
from fleet.ra.issue_own import CertifiedOwn, Order, OwnCertificate, OwnRequest, carry_out, issue_own
from fleet.ra.own import brought
from fleet.ra.own.own_pairs import OwnPair, names_of, own_pairs
from fleet.ra.own.superseding import Superseding, supersede
from fleet.ra.people.batches import surroundings
from fleet.ra.people.operator_files import operator_content
from fleet.ra.status.publishing import publish
from fleet.store.certificates import CertificateQuery, CertificateRecord, list_certificates, load_certificate

OVERLAP = timedelta(hours=1)
"""So long the certificate before stays good: whoever began with it comes to an end."""
RETRY = timedelta(hours=1)
"""What went wrong after a certificate was issued is tried again so much later, not with every tick."""
_ACTOR = "server"
_KEY_FILE_RANDOMNESS = 32
_SEVERAL = 1000

_log = logging.getLogger(__name__)


async def look_after_own(context: Context) -> None:
    """Take in what was brought, renew what is due, and tell those who could not read it before."""
    async with context.tls_users.turn:
        for act in (brought.look, _tell_again, renew_due):
            try:
                await act(context)
            except FleetError as error:
                _log.error("%s", error)


async def _tell_again(context: Context) -> None:
    if context.tls_users.is_behind:
        await context.tls_users.reload()


async def renew_due(context: Context) -> None:
    """Renew what is due, supersede what was replaced; what fails for one is told, and stops no other."""
    for pair in own_pairs(context):
        try:
            await _look_after(context, pair)
        except FleetError as error:
            _log.error("%s: %s", pair.files.certificate, error)


async def renew_own(context: Context, purposes: frozenset[Purpose]) -> None:
    """Renew all certificates of these purposes now, from the CAs that are active now.

    Raises:
        FleetError: one cannot be renewed; those before it are.
    """
    async with context.tls_users.turn:
        for pair in own_pairs(context):
            if pair.purpose in purposes:
                await _renew(context, pair, await _record_of(context, pair.certificate()))


async def follow_own(context: Context, purposes: frozenset[Purpose]) -> None:
    """Renew those certificates of these purposes that no active CA has signed: another took its place.

    Raises:
        FleetError: one cannot be renewed; those before it are, and are left alone the next time.
    """
    async with context.tls_users.turn:
        for pair in own_pairs(context):
            if pair.purpose not in purposes:
                continue
            record = await _record_of(context, pair.certificate())
            signing = {one.issuer_id for one in context.authority.issuers if one.state in ISSUES}
            if record is None or record.issuer not in signing:
                await _renew(context, pair, record)


async def _look_after(context: Context, pair: OwnPair) -> None:
    certificate, now = pair.certificate(), context.clock()
    record = await _record_of(context, certificate)
    if _is_needed(context, pair, certificate, record):
        if not _is_to_wait(context, pair):
            await _renew(context, pair, record)
    elif pair.retires and record is not None and record.created_at <= now - OVERLAP:
        await _retire_others(context, pair, record)


def _is_needed(
    context: Context, pair: OwnPair, certificate: x509.Certificate | None, record: CertificateRecord | None
) -> bool:
    is_good = record is not None and (pair.is_canary or record.state is CertificateState.ACTIVE)
    if certificate is None or not is_good:
        # What others hold copies of was ended on purpose, or is theirs to look after.
        return pair.retires
    if pair.purpose is Purpose.SERVER and context.config.server.host not in names_of(certificate):
        return True
    return is_due(certificate, pair.profile, now=context.clock())


async def _record_of(context: Context, certificate: x509.Certificate | None) -> CertificateRecord | None:
    if certificate is None:
        return None
    return await context.store.read(load_certificate, serial_hex(certificate.serial_number))


def _is_to_wait(context: Context, pair: OwnPair) -> bool:
    """Tell whether it was tried not long ago, and did not come into use; from now on it was."""
    tried, now = context.tls_users.tried, context.clock()
    last = tried.get(pair.files.certificate)
    if last is not None and now - last < RETRY:
        return True
    tried[pair.files.certificate] = now
    return False


async def _of_the_same(
    context: Context, pair: OwnPair, record: CertificateRecord | None, state: CertificateState | None = None
) -> list[CertificateRecord]:
    """Return the certificates of one bearer; the server's names may have changed from one to the next."""
    name = "" if pair.purpose is Purpose.SERVER else _name_of(pair, record)
    query = CertificateQuery(purpose=pair.purpose, name_prefix=name, state=state, limit=_SEVERAL)
    found = await context.store.read(list_certificates, query)
    return [one for one in found if name in {"", one.name}]


async def _renew(context: Context, pair: OwnPair, record: CertificateRecord | None) -> None:
    made = await _make(context, pair, record)
    if made.certified.sequence is not None:
        await context.broker.reach(made.certified.sequence)
    if pair.is_canary:
        # It proves a list that must name it before anybody is shown it.
        context.crls.note_change()
        await publish(context)
    await asyncio.to_thread(switch, made.content, named=pair.files.certificate)
    _log.info("%s was renewed, until %s", pair.files.certificate, made.certified.issued.not_after.date())
    if pair.purpose is Purpose.SIGNER:
        await reload_authority(context)
    elif pair.purpose in {Purpose.SERVER, Purpose.SERVICE}:
        await context.tls_users.reload()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What was issued, and what the files are to hold."""

    certified: CertifiedOwn
    content: dict[Path, Content]


async def _make(context: Context, pair: OwnPair, record: CertificateRecord | None) -> _Made:
    request = OwnRequest(
        purpose=pair.purpose,
        name=_name_of(pair, record),
        actor=_ACTOR,
        domain="" if record is None else record.domain,
        batch=None if record is None else record.batch,
        hosts=_hosts(context, pair),
        parent=None if record is None else record.serial,
        revoked_at_birth=pair.is_canary,
    )
    now = context.clock().replace(microsecond=0)
    if pair.issuer is not None:
        return await _make_signer(context, pair, request, pair.issuer)
    own = await issue_own(surroundings(context), request, now=now)
    return _Made(certified=own, content=_content(context, pair, own))


async def _make_signer(context: Context, pair: OwnPair, request: OwnRequest, issuer: Issuer) -> _Made:
    """Make who speaks for a CA, with a key of the type that it had."""
    before = pair.certificate()
    key = make_key() if before is None else make_authority_key(check_key(before.public_key()))
    order = Order(
        request=request,
        issuer=issuer,
        profile=pair.profile,
        applicant=authority_applicant(request.name, fleet=context.fleet),
        public_key=key.public_key(),
    )
    now = context.clock().replace(microsecond=0)
    found = await carry_out(surroundings(context), order, now=now)
    key_pem = context.in_force.keys.seal(key, randomness=context.randomness(_KEY_FILE_RANDOMNESS))
    content = pair_content(pair.files, key_pem=key_pem, certificate_pem=found.issued.pem)
    return _Made(certified=found, content=content)


def _name_of(pair: OwnPair, record: CertificateRecord | None) -> str:
    # The server may be told by another name than before.
    return pair.name if record is None or pair.purpose is Purpose.SERVER else record.name


def _hosts(context: Context, pair: OwnPair) -> tuple[str, ...]:
    """Return a server's names: what devices are told first, then what they were told before."""
    if pair.purpose is not Purpose.SERVER:
        return ()
    certificate = pair.certificate()
    before = () if certificate is None else names_of(certificate)
    return tuple(dict.fromkeys([context.config.server.host, *before]))


def _content(context: Context, pair: OwnPair, own: OwnCertificate) -> dict[Path, Content]:
    if pair.purpose is Purpose.OPERATOR:
        files = context.home.operator(pair.name)
        pems = (own.certificate_pem, own.key_pem.decode())
        return operator_content(files, pems, name=pair.name, randomness=context.randomness)
    return pair_content(pair.files, key_pem=own.key_pem, certificate_pem=own.certificate_pem)


async def _retire_others(context: Context, pair: OwnPair, record: CertificateRecord) -> None:
    """Supersede what the one in use has replaced, also what was issued and never came into use."""
    latest = context.clock() - OVERLAP
    found = await _of_the_same(context, pair, record, CertificateState.ACTIVE)
    others = [one.serial for one in found if one.serial != record.serial and one.created_at <= latest]
    if others:
        await supersede(context, Superseding(serials=tuple(others), actor=_ACTOR, at=context.clock()))
