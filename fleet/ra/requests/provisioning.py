"""Hands out certificates on AWS topics before their thing is registered (AWS: CreateCertificateFromCsr).

Such a certificate is worth nothing yet: it stands on no list, no broker admits it, and it lapses with its
token's hour. What it names, registration must grant; until then nobody is bound to the key, so a device that
lost the answer may come with another one. The same key gets the same certificate again, with a fresh token.
"""

import base64
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from device_agent.wire.identity import Identity, parse_device_id
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from device_agent.wire.secret import Secret
from fleet.ca.issuer import pem_of
from fleet.core import events, lifecycle
from fleet.core.csr import Csr, read_csr
from fleet.core.serial import new_serial
from fleet.errors import FleetError, RefusedError
from fleet.model import ADMITTED_STATES, Purpose
from fleet.ports import Transaction
from fleet.ra.choice import choose_issuer, may_issue
from fleet.ra.context import Context
from fleet.ra.gap import gap_refusal
from fleet.ra.issuing import signed_leaf
from fleet.ra.keys import KeyUse, key_refusal
from fleet.ra.requests.applicants import Admitted, Waits, require_certificate
from fleet.ra.requests.enrolling import EnrollCase, ruled_on
from fleet.ra.requests.lapsing import lapse, tell
from fleet.ra.requests.requester import Requester, case_of, require_room, token_hash
from fleet.ra.requests.rulings import Ruled, note_ruling, refusal_of
from fleet.ra.shown import ShownCertificate
from fleet.store import provisioning
from fleet.store.certificates import SignedCertificate, load_certificate
from fleet.store.devices import load_record
from fleet.store.provisioning import Provisioned, ProvisionedState

TOKEN_LIFETIME = timedelta(hours=1)
"""As at AWS."""
MAX_PENDING = 1000
"""Certificates that wait behind one claim certificate; more are told to come back."""
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCertificate:
    """What the client gets; the token is told once, here."""

    certificate_id: str
    """SHA-256 of the certificate, hex."""
    certificate_pem: str
    """The leaf, then its issuing CA: what a client shows in TLS must lead up to the root."""
    token: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class _Creating:
    """The argument of the unit of work."""

    case: EnrollCase
    token_hash: str
    shown: ShownCertificate

    @property
    def at(self) -> datetime:
        return self.case.applicant.at

    @property
    def key_hash(self) -> str:
        return self.case.applicant.key_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class _Intended:
    intent: Provisioned
    ruled: Ruled


_Found = SignedCertificate | _Intended | Waits | events.Nothing


async def create_certificate(context: Context, requester: Requester, *, csr_pem: str) -> NewCertificate:
    """Return a certificate for the key of a request, and the token by which its thing is registered.

    Raises:
        FleetError: the request is not fit, or nobody may register what it names.
    """
    now = context.clock()
    require_room(context, requester, now=now)
    csr = read_csr(csr_pem)
    token = Secret(base64.urlsafe_b64encode(context.randomness(_TOKEN_BYTES)).decode().rstrip("="))
    creating = _Creating(
        case=case_of(context, requester, csr, now=now), token_hash=token_hash(token), shown=requester.claim
    )
    async with context.turns.of(csr.key_hash):
        signed = await _certificate(context, creating, csr)
    chain = context.authority.issuer_by_id(signed.issuer).chain_pem
    return NewCertificate(
        certificate_id=signed.fingerprint, certificate_pem=pem_of(signed.der) + chain, token=token
    )


async def _certificate(context: Context, creating: _Creating, csr: Csr) -> SignedCertificate:
    found = await context.store.write(_intend, creating)
    match found:
        case Waits(short_code=short_code):
            raise RefusedError(
                f"somebody must approve this device first; compare the code {short_code}, then ask again"
            )
        case events.Nothing(code=code, reason=reason):
            raise RefusedError(reason, code=code)
        case SignedCertificate():
            return found
    intent = found.intent
    terms = found.ruled.ruling.terms
    if terms is None:
        raise FleetError("the profiles gave no terms", hint="report this as a defect")
    signed = await signed_leaf(context, terms, csr, serial=intent.serial, issuer=intent.issuer)
    await context.store.write(_keep, _Result(intent=intent, signed=signed, at=context.clock()))
    return signed


async def _intend(tx: Transaction, creating: _Creating) -> _Found:
    """Find the certificate of this key, or put on record that one is about to be signed."""
    claim = await require_certificate(tx, creating.shown, purpose=Purpose.CLAIM)
    known = await provisioning.find_by_key(tx, creating.key_hash)
    if known is not None and known.state is not ProvisionedState.LAPSED:
        again = await _again(tx, creating, known, claim_serial=claim.serial)
        if again is not None:
            return again
    if await provisioning.count_pending(tx, claim.serial) >= MAX_PENDING:
        raise RefusedError("too many certificates of this claim wait to be registered", code=ProblemCode.BUSY)
    case = await _named(tx, claim.domain, creating.case)
    found = await ruled_on(tx, case)
    if isinstance(found, Waits):
        return found
    admitted, ruled = found
    if (refusal := refusal_of(ruled.ruling) or await _refusal(tx, admitted, case)) is not None:
        await note_ruling(tx, ruled, refusal, creating.at)
        return refusal
    intent = await _intent(tx, creating, admitted, ruled, claim_serial=claim.serial)
    if isinstance(intent, events.Nothing):
        return intent
    return _Intended(intent=intent, ruled=ruled)


async def _again(
    tx: Transaction, creating: _Creating, known: Provisioned, *, claim_serial: str
) -> SignedCertificate | None:
    """Return what this key has got already, with a fresh token; None where that was lost or is over."""
    if known.claim_serial != claim_serial:
        raise RefusedError("this key came by another claim certificate", code=ProblemCode.KEY_IN_USE)
    in_time = known.expires_at > creating.at and await may_issue(tx, known.issuer)
    signed = known.signed if in_time else None
    if known.state is ProvisionedState.REGISTERED:
        row = await load_certificate(tx, known.serial)
        if row is None or row.signed is None or row.state not in ADMITTED_STATES:
            raise RefusedError(
                "the certificate of this key has had its life; ask with a new key",
                code=ProblemCode.KEY_IN_USE,
            )
        signed = row.signed
    if signed is None:
        await lapse(tx, known, at=creating.at)
        return None
    expires_at = creating.at + TOKEN_LIFETIME
    await provisioning.give_token(tx, known.serial, token_hash=creating.token_hash, expires_at=expires_at)
    return signed


async def _named(tx: Transaction, domain: str, case: EnrollCase) -> EnrollCase:
    """Return the case with whom the certificate will name: a registered device, if asked for, else its key.

    Clients put all kinds of common names into their requests; one that is no device's is a wish, and ignored.
    """
    csr = case.question.csr
    identity = _asked_for(domain, csr)
    if identity is not None and await load_record(tx, identity) is not None:
        return replace(case, applicant=replace(case.applicant, device_id=identity.device_id))
    applicant = replace(case.applicant, device_id=f"t-{csr.key_hash[:32]}")
    question = replace(case.question, csr=replace(csr, common_names=()))
    return replace(case, applicant=applicant, question=question)


def _asked_for(domain: str, csr: Csr) -> Identity | None:
    """Return the device that a request names, if it names one."""
    if len(csr.common_names) != 1:
        return None
    try:
        return Identity(domain=domain, device_id=parse_device_id(csr.common_names[0]))
    except MalformedMessageError:
        return None


async def _refusal(tx: Transaction, admitted: Admitted, case: EnrollCase) -> events.Nothing | None:
    """Return why registration would be refused, as far as that can be known now."""
    identity, applicant = admitted.device.identity, case.applicant
    use = KeyUse(
        identity=identity, key_hash=applicant.key_hash, actor=f"device:{identity.name}", at=applicant.at
    )
    if (refusal := await gap_refusal(tx) or await key_refusal(tx, use)) is not None:
        return refusal
    event = events.Enroll(code_id=admitted.code_id, key_hash=applicant.key_hash, kind=case.kind)
    device = admitted.device
    for asked in (*admitted.before, event):
        decision = lifecycle.decide(device, asked)
        device = decision.device
        if isinstance(decision.verdict, events.Nothing):
            return decision.verdict
    if isinstance(decision.verdict, events.Issue):
        return None
    return events.Nothing(
        code=ProblemCode.KEY_IN_USE, reason="this key has a certificate already; it renews that one"
    )


async def _intent(
    tx: Transaction, creating: _Creating, admitted: Admitted, ruled: Ruled, *, claim_serial: str
) -> Provisioned | events.Nothing:
    identity, circumstances = admitted.device.identity, creating.case.circumstances
    candidates = circumstances.issuers.get(identity.domain, ())
    issuer = await choose_issuer(tx, candidates, now=creating.at)
    if issuer is None or ruled.ruling.terms is None:
        return events.Nothing(code=ProblemCode.UNAVAILABLE, reason="no issuing CA of this domain is active")
    intent = Provisioned(
        serial=new_serial(
            now=creating.at,
            randomness=circumstances.randomness,
            above=lifecycle.highest_serial(admitted.device),
        ),
        identity=identity,
        key_hash=creating.key_hash,
        claim_serial=claim_serial,
        issuer=issuer.issuer,
        anchor=issuer.anchor,
        profile=ruled.ruling.terms.profile.name,
        state=ProvisionedState.PENDING,
        created_at=creating.at,
        expires_at=creating.at + TOKEN_LIFETIME,
    )
    await provisioning.insert_intent(tx, intent)
    await provisioning.give_token(
        tx, intent.serial, token_hash=creating.token_hash, expires_at=intent.expires_at
    )
    await tell(tx, intent, "provisioning.intended", at=creating.at)
    return intent


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    intent: Provisioned
    signed: SignedCertificate
    at: datetime


async def _keep(tx: Transaction, result: _Result) -> None:
    """Write 2: the certificate, if its CA may still sign and its claim still waits."""
    if not await may_issue(tx, result.signed.issuer):
        raise RefusedError(
            "the issuing CA was stopped while it signed; ask again", code=ProblemCode.UNAVAILABLE
        )
    if not await provisioning.keep_signed(tx, result.signed):
        raise RefusedError("the certificate lapsed while it was signed; ask again", code=ProblemCode.BUSY)
    await tell(tx, result.intent, "provisioning.signed", at=result.at, signed=result.signed)
