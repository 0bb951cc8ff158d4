"""What a device says about the certificates that it holds: confirm, done, status; and the signed time."""

from device_agent.wire.fields import time_text
from device_agent.wire.messages import Reply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.proofs import time_proof_text
from device_agent.wire.replies import Problem, Status, Time
from device_agent.wire.requests import Confirm, Done, StatusQuery, TimeQuery
from fleet.core import events, lifecycle
from fleet.ra.context import Context
from fleet.ra.issuing import answer_of, follow
from fleet.ra.judging import Case, Circumstances, judge
from fleet.ra.noticing import due_at
from fleet.ra.refusals import record_judged
from fleet.ra.requests.speaker import Speaker
from fleet.store.certificates import load_certificate
from fleet.store.devices import load_device


async def confirm(context: Context, speaker: Speaker, request: Confirm) -> Reply:
    """The certificate works: it becomes the current one, its predecessor superseded."""
    return await _tell(context, speaker, events.Confirm(serial=speaker.serial), message_id=request.id)


async def done(context: Context, speaker: Speaker, request: Done) -> Reply:
    """The device holds this certificate only; what shows an older one from now on is a copy."""
    event = events.Done(serial=speaker.serial, stamp=await context.broker.stamp())
    return await _tell(context, speaker, event, message_id=request.id)


async def status(context: Context, speaker: Speaker, request: StatusQuery) -> Reply:
    """What the certificate is to the server."""
    device = await context.store.read(load_device, speaker.identity)
    row = await context.store.read(load_certificate, speaker.serial)
    state = None if device is None else lifecycle.reported(device, speaker.serial)
    if state is None or row is None or row.signed is None:
        return Problem.of(request.id, ProblemCode.UNKNOWN_DEVICE, "there is no such certificate")
    due = await due_at(context, row, row.signed)
    return Status(id=request.id, serial=speaker.serial, state=state, renew_after=due)


async def tell_time(context: Context, speaker: Speaker, request: TimeQuery) -> Reply:
    """The time, signed for the nonce with the domain's time key (never by a station)."""
    signer = context.authority.time_signer(speaker.identity.domain)
    now = context.clock().replace(microsecond=0)
    text = time_proof_text(
        fleet=context.fleet, domain=speaker.identity.domain, nonce=request.nonce, now=time_text(now)
    )
    return Time(
        id=request.id,
        nonce=request.nonce,
        now=now,
        signature=signer.sign(text),
        certificate=signer.certificate_pem,
    )


async def _tell(context: Context, speaker: Speaker, event: events.Event, *, message_id: str) -> Reply:
    circumstances = Circumstances(
        at=context.clock(), actor=f"device:{speaker.identity.name}", address=speaker.address
    )
    case = Case(identity=speaker.identity, event=event, circumstances=circumstances)
    judged = await context.store.write(judge, case)
    await follow(context, judged)
    await record_judged(context, judged, circumstances)
    return await answer_of(context, judged, message_id=message_id)
