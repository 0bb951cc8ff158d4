"""From an intent to a certificate in the device's hands: sign, commit the result, and build the answer.

The intent is committed before the signature, the certificate after it, both judged on the state at their
commit. A crash in between leaves the intent void; it goes on the CRL, and a retry gets a new serial.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from device_agent.wire.identity import Identity
from device_agent.wire.messages import Reply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import BrokerAddress, Confirmed, Dead, DoneAck, HttpsAddress, Issued, Problem
from device_agent.wire.trust import FLEET_REALM, TrustBundle
from fleet.ca.issuer import pem_of
from fleet.core import access, events, lifecycle, lineage
from fleet.core.csr import Csr
from fleet.core.profile import Profile
from fleet.core.ruling import Terms
from fleet.core.serial import jitter_of
from fleet.core.windows import Window, choices, emptiest
from fleet.errors import FleetError, NotFoundError
from fleet.grants import Action, GrantSet
from fleet.log import Event, about
from fleet.model import CertificateState, ClientKind, Purpose
from fleet.ports import Transaction
from fleet.ra.access_rules import grants_of_serial
from fleet.ra.choice import IssuerName, may_issue
from fleet.ra.context import Context
from fleet.ra.judging import (
    Case,
    Circumstances,
    Judged,
    Outcome,
    entries,
    judge,
    refused,
)
from fleet.ra.refusals import record_judged
from fleet.store import audit
from fleet.store.certificates import CertificateRecord, SignedCertificate, load_certificate
from fleet.store.devices import load_device, save_device
from fleet.store.trust import bundles_in_force
from fleet.store.windows import count_planned, planned_in

_REACH_SECONDS = 5
"""A device waits no longer than this for its broker to hear of its certificate."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came in and how to answer it."""

    message_id: str
    csr: Csr
    anchors: tuple[str, ...]
    """Trust anchors that the device says it holds."""
    event: events.Enroll | events.Renew
    circumstances: Circumstances


async def fulfil(context: Context, judged: Judged, asked: Asked) -> Reply:
    """Turn a judgement on an `enroll` or `renew` into the answer; sign where it says so."""
    await follow(context, judged)
    if isinstance(judged.verdict, events.Replay):
        judged = await _without_lost(context, judged, judged.verdict, asked)
    if isinstance(judged.verdict, events.Issue) and judged.terms is not None:
        judged = await _issue(context, judged, judged.terms, asked)
        await follow(context, judged)
    if judged.kind is ClientKind.PLAIN:
        await _note_stamp(context, judged, asked)
    await record_judged(context, judged, asked.circumstances)
    return await answer_of(context, judged, message_id=asked.message_id, anchors=asked.anchors)


async def _without_lost(context: Context, judged: Judged, replay: events.Replay, asked: Asked) -> Judged:
    """Judge again, without a certificate that was lost with the database it stood in.

    A restored server knows it by its audit trail. Whoever asks for it never got it: it is dead, as any that
    nobody confirms, and the device is told so, or gets another.
    """
    row = await context.store.read(load_certificate, replay.serial)
    if judged.identity is None or row is None or row.signed is None or row.signed.der:
        return judged
    lost = events.Unconfirmed(serial=replay.serial)
    for event in (lost, asked.event):
        case = Case(identity=judged.identity, event=event, circumstances=asked.circumstances)
        judged = await context.store.write(judge, case)
        await follow(context, judged)
    return judged


async def follow(context: Context, judged: Judged) -> None:
    """Make the brokers admit what the commit admits, before anybody is answered."""
    if judged.notice is not None and judged.identity is not None:
        found = about(
            Event.DEVICE_ALARMED,
            device=judged.identity.device_id,
            domain=judged.identity.domain,
            cause=judged.notice.value,
        )
        _log.error("an operator must look", extra=found)
    if judged.retold:
        context.crls.note_superseded(judged.retold)
    if judged.sequence is None:
        return
    try:
        with context.tracer.span("broker"):
            async with asyncio.timeout(_REACH_SECONDS):
                await context.broker.reach(judged.sequence)
    except (FleetError, TimeoutError) as error:
        # The commit stands, and the broker gets the whole list when it is back: the device tries again.
        behind = about(Event.BROKER_BEHIND, count=judged.sequence, cause=str(error) or "too slow")
        _log.warning("the brokers do not have a change yet", extra=behind)


async def answer_of(
    context: Context, judged: Judged, *, message_id: str, anchors: tuple[str, ...] = ()
) -> Reply:
    """Return the wire's reply for a judgement."""
    match judged.verdict:
        case events.Issued(serial=serial) | events.Replay(serial=serial):
            row = await context.store.read(load_certificate, serial)
            if row is None or row.signed is None or not row.signed.der:
                raise NotFoundError(f"certificate {serial} is not in the store, or not whole")
            bundles = await context.store.read(bundles_in_force, (row.domain, FLEET_REALM))
            granted = await context.store.read(grants_of_serial, serial)
            issuance = Issuance(message_id=message_id, anchors=anchors, bundles=bundles, granted=granted)
            return _issued(context, row, row.signed, issuance)
        case events.Confirmed(serial=serial):
            return Confirmed(id=message_id, serial=serial)
        case events.DoneAck(serial=serial):
            return DoneAck(id=message_id, serial=serial)
        case events.Dead(key_hash=key_hash, attempt_floor=floor):
            return Dead(id=message_id, key_hash=key_hash, attempt_floor=floor)
        case events.Nothing(code=code, reason=reason):
            return Problem.of(message_id, code, reason)
        case _:
            return Problem.of(message_id, ProblemCode.BUSY, "the request is being worked on; ask again")


def profile_of(context: Context, domain: str, name: str = "") -> Profile:
    """Return a profile of a domain by its name, or its default, which also stands for one that is gone.

    Raises:
        NotFoundError: there is no such domain.
    """
    found = context.config.domain(domain)
    if found is None:
        raise NotFoundError(f"there is no domain {domain}", hint="see [domains] in fleet.toml")
    return next((profile for profile in found.profiles if profile.name == name), found.profiles[0])


def issuers_of(context: Context) -> dict[str, tuple[IssuerName, ...]]:
    """Return who may sign for the devices of each domain now, in the order in which they are taken."""
    authority = context.authority
    return {
        domain.name: tuple(
            IssuerName(issuer=issuer.issuer_id, anchor=issuer.anchor)
            for issuer in authority.active(Purpose.DEVICE, domain.name)
        )
        for domain in context.config.domains
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """Whose request an `issued` answers, and what the device holds already."""

    message_id: str
    anchors: tuple[str, ...]
    bundles: tuple[TrustBundle, ...]
    granted: GrantSet
    """What the access policy says to its certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    identity: Identity
    asked: Asked
    serial: str
    signed: SignedCertificate
    window: Window
    """When it is to be renewed."""


async def _issue(context: Context, judged: Judged, terms: Terms, asked: Asked) -> Judged:
    with context.tracer.span("sign") as span:
        span.note(serial=judged.serial, issuer=judged.issuer)
        signed = await signed_leaf(context, terms, asked.csr, serial=judged.serial, issuer=judged.issuer)
    result = _Result(
        identity=terms.identity,
        asked=asked,
        serial=judged.serial,
        signed=signed,
        window=terms.profile.window(signed.not_before, signed.not_after),
    )
    with context.tracer.span("commit"):
        return await context.store.write(_keep, result)


async def signed_leaf(
    context: Context, terms: Terms, csr: Csr, *, serial: str, issuer: str
) -> SignedCertificate:
    """Sign a leaf; where the key is in a token, others are served until that has answered."""
    call = partial(sign_leaf, context, terms, csr, serial=serial, issuer=issuer)
    waits = context.authority.issuer_by_id(issuer).signer.waits
    return await asyncio.to_thread(call) if waits else call()


def sign_leaf(context: Context, terms: Terms, csr: Csr, *, serial: str, issuer: str) -> SignedCertificate:
    """Sign what the terms allow, for the key of a request; the serial is on record as an intent."""
    signer = context.authority.issuer_by_id(issuer)
    template = terms.profile.template(
        terms.applicant,
        csr.public_key,
        now=context.clock(),
        issuer=signer.facts(context.endpoints.status_url),
    )
    leaf = signer.issue(template, serial=serial)
    return SignedCertificate(
        serial=leaf.serial,
        issuer=leaf.issuer_id,
        fingerprint=leaf.fingerprint,
        profile=terms.profile.name,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        der=leaf.der,
    )


async def _keep(tx: Transaction, result: _Result) -> Judged:
    """Write 2: the certificate, if the device as it stands now may still have it."""
    before = await load_device(tx, result.identity)
    if before is None:
        return refused(ProblemCode.UNKNOWN_DEVICE, f"{result.identity.name} is gone")
    if not await may_issue(tx, result.signed.issuer):
        return refused(ProblemCode.UNAVAILABLE, "the issuing CA was stopped while it signed; ask again")
    decision = lifecycle.signed(before, result.asked.event, serial=result.serial)
    issued = isinstance(decision.verdict, events.Issued)
    signed = await _planned(tx, result) if issued else None
    sequence = None
    if decision.device != before or signed is not None:
        sequence = await save_device(
            tx,
            before,
            after=decision.device,
            at=result.asked.circumstances.at,
            signed=signed,
        )
    outcome = Outcome(after=decision.device, decision=decision, serial=result.serial, signed=signed)
    await audit.append_many(tx, entries(before, outcome, result.asked.circumstances))
    return Judged(
        verdict=decision.verdict,
        identity=before.identity,
        kind=decision.device.kind,
        notice=decision.notice,
        sequence=sequence,
        device=decision.device,
        retold=lineage.retold(before, decision.device),
        is_on_record=decision.device != before,
    )


async def _planned(tx: Transaction, result: _Result) -> SignedCertificate:
    """Choose when it is to be renewed, and count that."""
    moments = choices(result.window, result.serial)
    moment = emptiest(moments, await planned_in(tx, moments))
    await count_planned(tx, moment)
    return replace(result.signed, renew_after=moment)


async def _note_stamp(context: Context, judged: Judged, asked: Asked) -> None:
    """Put the issue of a plain client's certificate in the broker's order (PROTOCOL.md 5).

    A repeated request makes up for a stamp that could not be read the first time.
    """
    if not isinstance(judged.verdict, events.Issued | events.Replay) or judged.device is None:
        return
    serial = judged.verdict.serial
    unused = [one for one in judged.device.certificates if one.state is CertificateState.ISSUED]
    if any(one.serial == serial and one.issued_stamp is None for one in unused):
        stamped = events.IssueStamped(serial=serial, stamp=await context.broker.stamp())
        case = Case(identity=judged.device.identity, event=stamped, circumstances=asked.circumstances)
        await follow(context, await context.store.write(judge, case))


def renew_after(context: Context, domain: str, signed: SignedCertificate) -> datetime:
    """Return when a certificate is due for renewal: as planned, else by its profile and its serial alone."""
    if signed.renew_after is not None:
        return signed.renew_after
    return profile_of(context, domain, signed.profile).renew_after(
        signed.not_before, signed.not_after, jitter_of(signed.serial)
    )


def _issued(context: Context, row: CertificateRecord, signed: SignedCertificate, to: Issuance) -> Issued:
    identity = Identity(domain=row.domain, device_id=row.device_id)
    issuer = context.authority.issuer_by_id(row.issuer)
    return Issued(
        id=to.message_id,
        serial=row.serial,
        certificate=pem_of(signed.der),
        chain=issuer.chain_pem,
        trust=context.authority.trust_pem(row.domain),
        link=context.authority.link(row.domain, to.anchors),
        attempt_floor=row.life.attempt,
        renew_after=renew_after(context, row.domain, signed),
        broker=BrokerAddress(
            host=context.endpoints.host,
            port=context.endpoints.mqtt_port,
            name=identity.name,
            publish=access.topics_of(identity, serial=row.serial, action=Action.PUBLISH, grants=to.granted),
            subscribe=access.topics_of(
                identity, serial=row.serial, action=Action.SUBSCRIBE, grants=to.granted
            ),
        ),
        recovery=HttpsAddress(host=context.endpoints.host, port=context.endpoints.https_port),
        bundles=to.bundles,
    )
