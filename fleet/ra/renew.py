"""The next certificate of a device that has one.

Its parent is the certificate that the channel proved; a body's word about it counts for nothing.
"""

from dataclasses import dataclass

from device_agent.wire.identity import Identity
from device_agent.wire.messages import Reply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.requests import Renew
from fleet.core import events
from fleet.core.csr import Csr, read_csr
from fleet.core.serial import SERIAL_RANDOMNESS
from fleet.errors import RefusedError
from fleet.model import ClientKind, Device
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.issuing import Asked, fulfil, issuers_of
from fleet.ra.judging import Circumstances, Judged, refused, settle
from fleet.ra.keys import KeyUse, key_refusal
from fleet.ra.speaker import Speaker
from fleet.store.devices import load_device


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewCase:
    """The argument of the unit of work."""

    identity: Identity
    csr: Csr
    event: events.Renew
    fleet: str
    same_key: bool
    """The domain's profile lets plain clients keep their key."""
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
    csr.require_identity(speaker.identity, fleet=context.fleet)
    event = events.Renew(
        parent=speaker.serial,
        key_hash=csr.key_hash,
        attempt=request.attempt,
        via=speaker.via,
        stamp=await context.broker.stamp(),
    )
    domain = context.config.domain(speaker.identity.domain)
    case = RenewCase(
        identity=speaker.identity,
        csr=csr,
        event=event,
        fleet=context.fleet,
        same_key=domain is not None and domain.same_key,
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
        judged = await context.store.write(judge_renew, case)
        return await fulfil(context, judged, asked)


async def judge_renew(tx: Transaction, case: RenewCase) -> Judged:
    """Check the key, and let the core judge: one commit."""
    device = await load_device(tx, case.identity)
    if device is None:
        return refused(ProblemCode.UNKNOWN_DEVICE, f"{case.identity.name} is not registered")
    if (refusal := _missing(device, case)) is not None:
        return Judged(verdict=refusal, identity=case.identity)
    use = KeyUse(
        identity=case.identity,
        key_hash=case.csr.key_hash,
        actor=case.circumstances.actor,
        at=case.circumstances.at,
    )
    if (refusal := await key_refusal(tx, use)) is not None:
        return Judged(verdict=refusal, identity=case.identity)
    return await settle(tx, device, (case.event,), case.circumstances)


def _missing(device: Device, case: RenewCase) -> events.Nothing | None:
    """Return what the request lacks for this kind of client."""
    if device.kind is ClientKind.AGENT and case.event.attempt is None:
        return events.Nothing(code=ProblemCode.MALFORMED, reason="attempt must be an integer: agents count")
    parent = next((row for row in device.certificates if row.serial == case.event.parent), None)
    is_same = parent is not None and parent.key_hash == case.csr.key_hash
    if is_same and not (device.kind is ClientKind.PLAIN and case.same_key):
        return events.Nothing(code=ProblemCode.KEY_IN_USE, reason="renewal takes a new key")
    return None
