"""Registers things for AWS clients (AWS: RegisterThing): the one act that puts their certificates in force.

A token admits nobody by itself: it says which certificate is meant, and the claim behind the connection must
be the one that asked for it. Who may be what, admission and the profiles say, as on every other channel. A
refusal leaves the token as it was; what was registered takes it, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509

from device_agent.wire.problems import ProblemCode
from device_agent.wire.secret import Secret
from fleet.core import events
from fleet.core.csr import csr_of_key
from fleet.core.thing_template import ThingTemplate
from fleet.errors import FleetError, RefusedError
from fleet.model import ADMITTED_STATES, AuditEntry, Purpose
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.issuing import follow
from fleet.ra.requests.applicants import Waits, require_certificate
from fleet.ra.requests.enrolling import EnrollCase, Judgement, consulted, judge_enroll
from fleet.ra.requests.lapsing import lapse
from fleet.ra.requests.requester import Requester, case_of, require_room, token_hash
from fleet.ra.requests.templates import template_of
from fleet.ra.shown import ShownCertificate
from fleet.store import audit, provisioning
from fleet.store.attributes import put_attributes
from fleet.store.certificates import CertificateRecord, SignedCertificate, load_certificate
from fleet.store.provisioning import Provisioned, ProvisionedState


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What RegisterThing says."""

    template: str
    token: Secret
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """What it answers: the name at the broker, and the template's configuration."""

    name: str
    configuration: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registering(EnrollCase):
    """The argument of the unit of work."""

    token_hash: str
    template: str
    parameters: Mapping[str, str]
    shown: ShownCertificate

    @property
    def at(self) -> datetime:
        return self.applicant.at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    thing: Thing
    judgement: Judgement | None = None
    """None where it was registered before."""


async def register_thing(context: Context, requester: Requester, registration: Registration) -> Thing:
    """Put the certificate of a token in force, as the template says.

    Raises:
        NotFoundError: there is no such template.
        RefusedError: token, template, parameters, admission or profiles say no.
    """
    now = context.clock()
    require_room(context, requester, now=now)
    hashed = token_hash(registration.token)
    waiting = await context.store.read(provisioning.find_by_token, hashed)
    if waiting is None:
        raise _no_token()
    signed = waiting.signed or await _signed(context, waiting)
    csr = csr_of_key(x509.load_der_x509_certificate(signed.der).public_key())
    case = case_of(context, requester, csr, now=now)
    registering = _Registering(
        applicant=case.applicant,
        question=case.question,
        circumstances=case.circumstances,
        kind=case.kind,
        asks_webhook=case.asks_webhook,
        token_hash=hashed,
        template=registration.template,
        parameters=registration.parameters,
        shown=requester.claim,
    )
    found = await consulted(context, _register, registering)
    if isinstance(found, Waits):
        raise RefusedError(
            f"somebody must approve this device first; compare the code {found.short_code}, then ask again"
        )
    if isinstance(found, events.Nothing):
        raise RefusedError(found.reason, code=found.code)
    if found.judgement is not None:
        await follow(context, found.judgement.judged)
    return found.thing


async def _signed(context: Context, waiting: Provisioned) -> SignedCertificate:
    row = await context.store.read(load_certificate, waiting.serial)
    if row is None or row.signed is None:
        raise _no_token()
    return row.signed


async def _register(tx: Transaction, asked: _Registering) -> _Outcome | Waits | events.Nothing:
    """Judge token, template and parameters, then the device as every first certificate's: one commit."""
    claim = await require_certificate(tx, asked.shown, purpose=Purpose.CLAIM)
    waiting = await _of_token(tx, asked, claim)
    template = await template_of(tx, asked.template)
    _require_fit(template, asked, waiting=waiting, claim=claim)
    thing = Thing(name=waiting.identity.name, configuration=template.configuration)
    if waiting.state is ProvisionedState.REGISTERED:
        await _require_in_force(tx, waiting)
        await provisioning.take_token(tx, waiting.serial)
        return _Outcome(thing=thing)
    applicant = replace(asked.applicant, device_id=waiting.identity.device_id)
    judgement = await judge_enroll(tx, replace(asked, applicant=applicant, leaf=waiting))
    if isinstance(judgement, Waits):
        return judgement
    verdict = judgement.judged.verdict
    if isinstance(verdict, events.Nothing):
        if verdict.code is ProblemCode.NOT_CURRENT:
            await lapse(tx, waiting, at=asked.at)
        return verdict
    if not isinstance(verdict, events.Issued):
        raise FleetError("a registration ended in between", hint="report this as a defect")
    await provisioning.end(tx, waiting.serial, ProvisionedState.REGISTERED)
    await put_attributes(tx, waiting.identity, asked.parameters, source="template")
    await audit.append(tx, _entry(asked, waiting))
    return _Outcome(thing=thing, judgement=judgement)


async def _of_token(tx: Transaction, asked: _Registering, claim: CertificateRecord) -> Provisioned:
    waiting = await provisioning.find_by_token(tx, asked.token_hash)
    if waiting is None or waiting.claim_serial != claim.serial or waiting.expires_at <= asked.at:
        raise _no_token()
    if waiting.state is ProvisionedState.PENDING and waiting.signed is None:
        raise _no_token()
    return waiting


def _require_fit(
    template: ThingTemplate, asked: _Registering, *, waiting: Provisioned, claim: CertificateRecord
) -> None:
    if not template.is_for(claim.domain, claim.batch or ""):
        raise RefusedError(f"template {template.name} is not for this claim certificate")
    template.check(asked.parameters)
    wanted = template.id_from(asked.parameters)
    if wanted and wanted != waiting.identity.device_id:
        raise RefusedError(
            f"the certificate names {waiting.identity.device_id}, and the parameters another thing:"
            " register the device, and ask with its id as the request's common name",
            code=ProblemCode.BAD_IDENTITY,
        )


async def _require_in_force(tx: Transaction, waiting: Provisioned) -> None:
    row = await load_certificate(tx, waiting.serial)
    if row is None or row.state not in ADMITTED_STATES:
        raise _no_token()


def _entry(asked: _Registering, waiting: Provisioned) -> AuditEntry:
    details = (
        ("template", asked.template),
        ("claim", waiting.claim_serial),
        *((f"parameter {name}", value) for name, value in sorted(asked.parameters.items())),
    )
    return AuditEntry(
        at=asked.at,
        action="thing.registered",
        actor=f"device:{waiting.identity.name}",
        domain=waiting.identity.domain,
        device_id=waiting.identity.device_id,
        serial=waiting.serial,
        details=details,
    )


def _no_token() -> RefusedError:
    return RefusedError(
        "the token is not one for this claim, or was used, or its hour is over: ask for a certificate again",
        code=ProblemCode.CODE_INVALID,
    )
