"""First certificates: a proof of who the device is admits one (device, key), once.

It only gathers what the channel and the request prove; admission, the profiles and the core judge.
"""

from datetime import datetime

from device_agent.wire.messages import Reply
from device_agent.wire.replies import Pending
from device_agent.wire.requests import Enroll
from fleet.core.csr import read_csr
from fleet.core.serial import SERIAL_RANDOMNESS
from fleet.errors import RefusedError
from fleet.model import RevocationReason
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.issuing import Asked, fulfil, issuers_of
from fleet.ra.judging import Circumstances
from fleet.ra.requests.applicants import (
    NOTHING_SAID,
    AdmissionProof,
    Applicant,
    CodeProof,
    HardwareProof,
    StationProof,
    StationWord,
    Waits,
)
from fleet.ra.requests.enrolling import EnrollCase, consulted, judge_enroll
from fleet.ra.requests.evidence import proof_of
from fleet.ra.requests.guesses import counted, guess_of
from fleet.ra.requests.queue import RETRY_AFTER_SECONDS
from fleet.ra.requests.rulings import question_of


async def enroll(
    context: Context, asker: Asker, request: Enroll, *, word: StationWord = NOTHING_SAID
) -> Reply:
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
    proof = await proof_of(context, asker, request, csr, word=word)
    applicant = Applicant(
        fleet=context.fleet,
        device_id=request.device_id,
        key_hash=csr.key_hash,
        proof=proof,
        address=asker.address,
        at=now,
        domain=asker.domain,
        hardware_returns=context.config.policy.hardware_returns,
    )
    case = EnrollCase(
        applicant=applicant,
        question=question_of(context.config, asker, csr, at=now),
        circumstances=_circumstances(context, asker, now),
        kind=asker.kind,
        asks_webhook=context.webhook is not None,
    )
    async with context.turns.of(csr.key_hash):
        if not _has_code(proof):
            return await _decide(context, request, case)
        with counted(context, guess_of(context, asker, request.device_id)):
            return await _decide(context, request, case)


def _circumstances(context: Context, asker: Asker, now: datetime) -> Circumstances:
    return Circumstances(
        at=now,
        actor="server",  # who it is, admission finds out
        address=asker.address,
        randomness=context.randomness(SERIAL_RANDOMNESS),
        issuers=issuers_of(context),
        # A station replaces a unit that was wiped: its earlier certificates are of no use to anybody.
        reason=RevocationReason.CESSATION_OF_OPERATION,
    )


async def _decide(context: Context, request: Enroll, case: EnrollCase) -> Reply:
    with context.tracer.span("judge"):
        outcome = await consulted(context, judge_enroll, case)
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


def _has_code(proof: AdmissionProof) -> bool:
    return isinstance(proof, CodeProof | HardwareProof | StationProof) and bool(proof.code_hash)
