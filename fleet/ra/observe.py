"""Tells the core what the brokers saw: who connected, who was refused, in the broker's own order.

It is evidence, judged like any request on the state at its commit: first uses of plain clients, stale
handshakes, clones. Nobody is answered here.
"""

import logging

from device_agent.wire.identity import parse_name, parse_serial
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.core import events, lifecycle
from fleet.errors import FleetError
from fleet.model import BrokerEvent, BrokerEventKind
from fleet.ports import SupervisedBroker, Transaction
from fleet.ra.context import Context
from fleet.ra.issuing import follow
from fleet.ra.judging import Case, Circumstances, Judged, refused, settle
from fleet.store.certificates import load_certificate
from fleet.store.devices import load_device, mark_seen

_log = logging.getLogger(__name__)


async def observe(context: Context, broker: SupervisedBroker) -> None:
    """Follow one broker's events until cancelled."""
    async for event in broker.events():
        context.presence.note(event)
        case = _case(event)
        if case is None:
            continue
        try:
            if not await context.store.read(matters, case):
                continue
            await follow(context, await context.store.write(judge_sighting, case))
        except FleetError as error:
            # Evidence that cannot be kept now is lost; what the brokers admit does not depend on it.
            _log.warning("an event of %s could not be kept: %s", event.name, error)


def _case(event: BrokerEvent) -> Case | None:
    """Return what the core is to judge, for a device's certificate that reached the guard."""
    try:
        identity, serial = parse_name(event.name), parse_serial(event.serial)
    except MalformedMessageError:
        return None
    match event.kind:
        case BrokerEventKind.CONNECTED:
            sighting: events.Event = events.Connected(serial=serial, stamp=event.stamp)
        case BrokerEventKind.REFUSED:
            sighting = events.Refused(serial=serial, stamp=event.stamp)
        case _:
            return None
    circumstances = Circumstances(at=event.at, actor="server", address=event.address)
    return Case(identity=identity, event=sighting, circumstances=circumstances)


async def matters(tx: Transaction, case: Case) -> bool:
    """Tell whether anything would change, so that knocking at a closed door costs no commit."""
    if not isinstance(case.event, events.Refused):
        return True
    device = await load_device(tx, case.identity)
    return device is not None and lifecycle.decide(device, case.event).device != device


async def judge_sighting(tx: Transaction, case: Case) -> Judged:
    """Judge a connection or a refusal, if the certificate really is this device's."""
    event = case.event
    if not isinstance(event, events.Connected | events.Refused):
        raise TypeError("a sighting is a connection or a refusal")
    row = await load_certificate(tx, event.serial)
    device = await load_device(tx, case.identity)
    if device is None or row is None or row.identity != case.identity:
        return refused(ProblemCode.UNKNOWN_DEVICE, "no device of ours")
    if isinstance(event, events.Connected):
        await mark_seen(tx, case.identity, case.circumstances.at)
    return await settle(tx, device, (event,), case.circumstances)
