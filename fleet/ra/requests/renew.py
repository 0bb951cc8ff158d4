"""The next certificate of a device that has one.

Its parent is the certificate that the channel proved; a body's word about it counts for nothing.
"""

from dataclasses import dataclass, replace

from device_agent.wire.identity import Identity
from device_agent.wire.messages import Reply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.requests import Renew
from fleet.core import events
from fleet.core.csr import read_csr
from fleet.core.ruling import Ruling
from fleet.core.serial import SERIAL_RANDOMNESS, is_adopted
from fleet.errors import RefusedError
from fleet.model import ClientKind, Device
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.issuing import Asked, fulfil, issuers_of
from fleet.ra.judging import Circumstances, Judged, refused, settle
from fleet.ra.keys import KeyUse, key_refusal
from fleet.ra.requests.rulings import Question, note_ruling, question_of, refusal_of, rule_next
from fleet.ra.requests.speaker import Speaker
from fleet.store.adopted import take_part
from fleet.store.devices import load_device


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewCase:
    """The argument of the unit of work."""

    identity: Identity
    question: Question
    event: events.Renew
    circumstances: Circumstances


async def renew(context: Context, speaker: Speaker, request: Renew) -> Reply:
    """Answer a `renew` of the device behind a certificate.

    Raises:
        FleetError: the request is not fit, or the store or the broker does not answer.
    """
    if not context.by_device.allow(f"renew {speaker.identity.name}", now=context.clock()):
        # Each renewal that nobody confirms leaves a dead certificate on the revocation list.
        raise RefusedError("too many renewals in a minute", code=ProblemCode.RATE_LIMITED)
    csr = read_csr(request.csr)
    if not is_adopted(speaker.serial):  # another CA knew it by other names, and none are certified
        csr.require_identity(speaker.identity, fleet=context.fleet)
    event = events.Renew(
        parent=speaker.serial,
        key_hash=csr.key_hash,
        attempt=request.attempt,
        via=speaker.via,
        stamp=await context.broker.stamp(),
    )
    case = RenewCase(
        identity=speaker.identity,
        question=question_of(context.config, speaker.asker, csr, at=context.clock()),
        event=event,
        circumstances=Circumstances(
            at=context.clock(),
            actor=f"device:{speaker.identity.name}",
            address=speaker.address,
            randomness=context.randomness(SERIAL_RANDOMNESS),
            issuers=issuers_of(context),
        ),
    )
    asked = Asked(
        message_id=request.id,
        csr=csr,
        anchors=request.anchors,
        event=event,
        circumstances=case.circumstances,
    )
    async with context.turns.of(speaker.identity.name):
        with context.tracer.span("judge"):
            judged = await context.store.write(judge_renew, case)
        return await fulfil(context, judged, asked)


async def judge_renew(tx: Transaction, case: RenewCase) -> Judged:
    """Ask the profiles, check the key, and let the core judge: one commit."""
    device = await _moving(tx, case) if is_adopted(case.event.parent) else None
    device = device or await load_device(tx, case.identity)
    if device is None:
        return refused(ProblemCode.UNKNOWN_DEVICE, f"{case.identity.name} is not registered")
    if device.kind is ClientKind.AGENT and case.event.attempt is None:
        counts = events.Nothing(code=ProblemCode.MALFORMED, reason="attempt must be an integer: agents count")
        return Judged(verdict=counts, identity=case.identity)
    ruled = await rule_next(tx, case.question, device, case.event)
    judged = await _judge_ruled(tx, device, case, ruled.ruling)
    await note_ruling(tx, ruled, judged.verdict, case.circumstances.at)
    return judged


async def _moving(tx: Transaction, case: RenewCase) -> Device | None:
    """Return the device of an adopted leaf; how it takes part from here on, its first renewal shows."""
    device = await load_device(tx, case.identity)
    kind = ClientKind.PLAIN if case.event.attempt is None else ClientKind.AGENT
    if (
        device is None
        or device.kind is kind
        or not all(is_adopted(one.serial) for one in device.certificates)
    ):
        return device
    await take_part(tx, (case.identity, kind))
    return await load_device(tx, case.identity)


async def _judge_ruled(tx: Transaction, device: Device, case: RenewCase, ruling: Ruling) -> Judged:
    if (refusal := refusal_of(ruling)) is not None:
        return Judged(verdict=refusal, identity=case.identity)
    use = KeyUse(
        identity=case.identity,
        key_hash=case.event.key_hash,
        actor=case.circumstances.actor,
        at=case.circumstances.at,
    )
    if (refusal := await key_refusal(tx, use)) is not None:
        return Judged(verdict=refusal, identity=case.identity)
    judged = await settle(tx, device, (case.event,), case.circumstances)
    return replace(judged, terms=ruling.terms)
