"""Tells the core what the brokers saw: who connected, who was refused, in the broker's own order.

It is evidence, judged like any request on the state at its commit: first uses of plain clients, stale
handshakes, clones. Nobody is answered here.
"""

import logging
from dataclasses import dataclass, replace

from device_agent.wire.identity import parse_shown_serial
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.core import events, lifecycle
from fleet.core.serial import is_adopted
from fleet.errors import FleetError
from fleet.model import BrokerEvent, BrokerEventKind
from fleet.ports import SupervisedBroker, Transaction
from fleet.ra.context import Context
from fleet.ra.history import contact_of
from fleet.ra.issuing import follow
from fleet.ra.judging import Case, Circumstances, Judged, refused, settle
from fleet.store.adopted import Shown, load_shown
from fleet.store.devices import load_device, mark_seen

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A certificate that reached a broker's guard, and what became of it."""

    issuer: str
    event: events.Connected | events.Refused
    circumstances: Circumstances


async def observe(context: Context, broker: SupervisedBroker) -> None:
    """Follow one broker's events until cancelled."""
    async for event in broker.events():
        context.presence.note(event)
        context.history.note(contact_of(event, place=context.driver))
        sighting = _sighting(event)
        if sighting is None:
            continue
        try:
            case = await context.store.read(case_of, sighting)
            if case is not None:
                await follow(context, await context.store.write(judge_sighting, case))
        except FleetError as error:
            # Evidence that cannot be kept now is lost; what the brokers admit does not depend on it.
            _log.warning("an event of certificate %s could not be kept: %s", event.serial, error)


def _sighting(event: BrokerEvent) -> Sighting | None:
    try:
        serial = parse_shown_serial(event.serial)
    except MalformedMessageError:
        return None
    circumstances = Circumstances(at=event.at, actor="server", address=event.address)
    match event.kind:
        case BrokerEventKind.CONNECTED:
            seen: events.Connected | events.Refused = events.Connected(serial=serial, stamp=event.stamp)
        case BrokerEventKind.REFUSED:
            seen = events.Refused(serial=serial, stamp=event.stamp)
        case _:
            return None
    return Sighting(issuer=event.issuer, event=seen, circumstances=circumstances)


async def case_of(tx: Transaction, sighting: Sighting) -> Case | None:
    """Return what the core is to judge; None for what is no device's, or would change nothing.

    Whose certificate it is, its row says: the broker has no name for one that is not on its list, and just
    these refusals are the evidence. That knocking at a closed door costs no commit is on purpose.
    """
    row = await load_shown(tx, Shown(issuer=sighting.issuer, serial=sighting.event.serial))
    if row is None or row.identity is None:
        return None
    event = replace(sighting.event, serial=row.serial)
    if isinstance(event, events.Refused):
        if is_adopted(row.serial):
            return None  # what was there before us may go on trying: that is no copy
        device = await load_device(tx, row.identity)
        if device is None or lifecycle.decide(device, event).device == device:
            return None
    return Case(identity=row.identity, event=event, circumstances=sighting.circumstances)


async def judge_sighting(tx: Transaction, case: Case) -> Judged:
    """Judge a connection or a refusal, on the device as it stands."""
    device = await load_device(tx, case.identity)
    if device is None:
        return refused(ProblemCode.UNKNOWN_DEVICE, "no device of ours")
    if isinstance(case.event, events.Connected):
        await mark_seen(tx, case.identity, case.circumstances.at)
    return await settle(tx, device, (case.event,), case.circumstances)
