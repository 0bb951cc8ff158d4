"""First certificates: a code, a claim or a station's word admits one (device, key), once.

It only gathers what the channel and the request prove; admission and the core judge, in one commit.
"""

from dataclasses import dataclass, replace

from device_agent.wire.messages import Reply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Pending
from device_agent.wire.requests import Enroll, ProofKind
from fleet.core import events
from fleet.core.csr import read_csr
from fleet.core.ruling import Outcome
from fleet.core.serial import SERIAL_RANDOMNESS
from fleet.errors import RefusedError
from fleet.model import ClientKind, RevocationReason
from fleet.ports import Transaction
from fleet.ra.admission import (
    RETRY_AFTER_SECONDS,
    AdmissionProof,
    Admitted,
    Applicant,
    ClaimProof,
    CodeProof,
    StationProof,
    Waits,
    admit,
    wait_for_approval,
)
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.issuing import Asked, fulfil, issuers_of
from fleet.ra.judging import Circumstances, Judged, settle
from fleet.ra.keys import KeyUse, key_refusal
from fleet.ra.leaf import Entrance, put_in_force
from fleet.ra.rulings import Question, Ruled, note_ruling, question_of, refusal_of, rule_first
from fleet.ra.shown import ShownCertificate
from fleet.store import claims
from fleet.store.codes import GrantKind, code_hash, load_code
from fleet.store.provisioning import Provisioned
from fleet.store.stations import StationUnit, record_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollCase:
    """The argument of the unit of work."""

    applicant: Applicant
    question: Question
    circumstances: Circumstances
    kind: ClientKind | None = None
    """What the channel knows of how its client takes part."""
    leaf: Provisioned | None = None
    """A certificate that was signed before and waits for this: it is put in force, and none is intended."""


async def enroll(context: Context, asker: Asker, request: Enroll, *, replaces: str = "") -> Reply:
    """Answer an `enroll`.

    Raises:
        FleetError: the request is not fit, or the store did not take it.
    """
    if asker.listener is Listener.OPERATIONAL:
        raise RefusedError("whoever has a certificate renews it; another device's code is not for this one")
    csr = read_csr(request.csr)
    if asker.listener is Listener.BOOTSTRAP and asker.client_id != csr.key_hash:
        # Answers go to the topic of this client id: it must be nobody's but the key's owner's.
        raise RefusedError("the MQTT client id must be the SHA-256 of the request's public key")
    now = context.clock()
    proof = await _proof_of(context, asker, request, replaces)
    circumstances = Circumstances(
        at=now,
        actor="server",  # who it is, admission finds out
        address=asker.address,
        randomness=context.randomness(SERIAL_RANDOMNESS),
        issuers=issuers_of(context),
        # A station replaces a unit that was wiped: its earlier certificates are of no use to anybody.
        reason=RevocationReason.CESSATION_OF_OPERATION,
    )
    applicant = Applicant(
        device_id=request.device_id,
        key_hash=csr.key_hash,
        proof=proof,
        address=asker.address,
        at=now,
        domain=asker.domain,
    )
    case = EnrollCase(
        applicant=applicant,
        question=question_of(context.config, asker, csr, at=now),
        circumstances=circumstances,
        kind=asker.kind,
    )
    guess = f"code {asker.address}" if isinstance(proof, CodeProof) and asker.address else ""
    if guess and not context.by_address.has_room(guess, now=now):
        raise RefusedError("too many wrong codes from this address", code=ProblemCode.RATE_LIMITED)
    async with context.turns.of(csr.key_hash):
        try:
            return await _decide(context, request, case)
        except RefusedError as error:
            if guess and error.code is ProblemCode.CODE_INVALID:
                context.by_address.allow(guess, now=now)
            raise


async def _decide(context: Context, request: Enroll, case: EnrollCase) -> Reply:
    outcome = await context.store.write(judge_enroll, case)
    if isinstance(outcome, Waits):
        return Pending(id=request.id, retry_after_seconds=RETRY_AFTER_SECONDS, code=outcome.short_code)
    if outcome.replaced:
        context.crls.note_change()
    asked = Asked(
        message_id=request.id,
        csr=case.question.csr,
        anchors=request.anchors,
        event=outcome.event,
        circumstances=outcome.circumstances,
    )
    return await fulfil(context, outcome.judged, asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the unit of work made of an admitted request."""

    event: events.Enroll
    judged: Judged
    circumstances: Circumstances
    """With the name of who asked."""
    replaced: bool = False
    """Earlier certificates of the device were revoked with it."""


async def judge_enroll(tx: Transaction, case: EnrollCase) -> Judgement | Waits:
    """Admit, check names, ask the profiles, check the key, and let the core judge: one commit.

    Raises:
        RefusedError: the proof does not admit, or the request names somebody else.
    """
    applicant = case.applicant
    found = await ruled_on(tx, case)
    if isinstance(found, Waits):
        return found
    admitted, ruled = found
    identity = admitted.device.identity
    actor = f"station:{admitted.station}" if admitted.station else f"device:{identity.name}"
    event = events.Enroll(code_id=admitted.code_id, key_hash=applicant.key_hash, kind=case.kind)
    circumstances = replace(case.circumstances, actor=actor)
    asked = _Ruled(event=event, ruled=ruled, circumstances=circumstances, leaf=case.leaf)
    judged = await _judge_ruled(tx, admitted, asked)
    await note_ruling(tx, ruled, judged.verdict, applicant.at)
    if isinstance(judged.verdict, events.Issue | events.Issued):
        await _count(tx, admitted, judged, applicant)
    return Judgement(
        event=event,
        judged=judged,
        circumstances=circumstances,
        replaced=bool(admitted.replaces) and not isinstance(judged.verdict, events.Nothing),
    )


async def ruled_on(tx: Transaction, case: EnrollCase) -> tuple[Admitted, Ruled] | Waits:
    """Judge the proof and the names, and ask the profiles; nobody is bound to anything by it.

    Raises:
        RefusedError: the proof does not admit, or the request names somebody else.
    """
    applicant, question = case.applicant, case.question
    admitted = await admit(tx, applicant)
    if isinstance(admitted, Waits):
        return admitted
    identity = admitted.device.identity
    question.csr.require_identity(identity, fleet=question.rules.fleet)
    ruled = await rule_first(tx, question, identity, grants=await _grants_of(tx, admitted))
    if ruled.ruling.outcome is Outcome.WAITS:
        await note_ruling(tx, ruled, None, applicant.at)
        return await wait_for_approval(tx, applicant, identity)
    return admitted, ruled


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ruled:
    event: events.Enroll
    ruled: Ruled
    circumstances: Circumstances
    leaf: Provisioned | None


async def _judge_ruled(tx: Transaction, admitted: Admitted, case: _Ruled) -> Judged:
    """Judge a request that the profiles have ruled on."""
    identity, circumstances = admitted.device.identity, case.circumstances
    if (refusal := refusal_of(case.ruled.ruling)) is not None:
        return Judged(verdict=refusal, identity=identity)
    use = KeyUse(
        identity=identity, key_hash=case.event.key_hash, actor=circumstances.actor, at=circumstances.at
    )
    if (refusal := await key_refusal(tx, use)) is not None:
        return Judged(verdict=refusal, identity=identity)
    entrance = Entrance(before=admitted.before, enroll=case.event, grants=admitted.grants)
    if case.leaf is not None:
        return await put_in_force(tx, admitted.device, entrance, circumstances, case.leaf)
    judged = await settle(tx, admitted.device, entrance.asked, circumstances, admitted.grants)
    return replace(judged, terms=case.ruled.ruling.terms)


async def _grants_of(tx: Transaction, admitted: Admitted) -> frozenset[GrantKind]:
    """Return what the proof of this request is worth."""
    if admitted.grants:
        return frozenset(grant.kind for grant in admitted.grants)
    known = await load_code(tx, admitted.code_id)
    return frozenset() if known is None else frozenset({known.kind})


async def _count(tx: Transaction, admitted: Admitted, judged: Judged, applicant: Applicant) -> None:
    """Note the use of a claim, or the unit of a station."""
    identity = admitted.device.identity
    if admitted.batch:
        await claims.use_batch(tx, identity.domain, admitted.batch)
    if admitted.station:
        unit = StationUnit(
            station=admitted.station,
            identity=identity,
            outcome="enrolled",
            serial=judged.serial,
            note="",
            reported_at=applicant.at,
        )
        await record_unit(tx, unit)


async def _proof_of(context: Context, asker: Asker, request: Enroll, replaces: str) -> AdmissionProof:
    kind, code = request.proof.kind, request.proof.code
    if kind is ProofKind.CODE and code is not None:
        return CodeProof(code_hash=code_hash(code))
    if kind is ProofKind.CLAIM:
        return ClaimProof(shown=await _claim_of(context, asker))
    if kind is ProofKind.STATION and asker.station:
        return StationProof(name=asker.station, replaces=replaces)
    if kind is ProofKind.STATION and asker.listener is Listener.HTTPS and asker.certificate is not None:
        return StationProof(shown=asker.certificate, replaces=replaces)
    raise RefusedError(f"a proof of kind {kind} is not accepted here")


async def _claim_of(context: Context, asker: Asker) -> ShownCertificate:
    """Return the certificate of the connection, which on the bootstrap listener the broker must tell."""
    if asker.certificate is not None:
        return asker.certificate
    if asker.listener is Listener.BOOTSTRAP:
        if (shown := context.presence.find(asker.client_id)) is not None:
            return shown
        for session in await context.broker.sessions():
            context.presence.note(session)
        if (shown := context.presence.find(asker.client_id)) is not None:
            return shown
    raise RefusedError("there is no claim certificate behind this request")
