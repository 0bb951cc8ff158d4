"""Keeps what devices say of whom they trust: from their state, and from their requests.

It is their own word about themselves. Nothing is opened by it: it tells when an old root can go.
"""

import logging
from dataclasses import replace

from device_agent.wire.identity import Identity
from device_agent.wire.notices import StateReport
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.requests import Done, Renew
from device_agent.wire.trust import FLEET_REALM, TrustVersions
from fleet.errors import FleetError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.requests.rollout_words import hear_state
from fleet.ra.requests.speaker import Speaker
from fleet.store import audit
from fleet.store.devices import load_record
from fleet.store.marks import TellsVersion, is_news, set_version
from fleet.store.rollout_devices import stir
from fleet.store.trust import HeldTrust, load_held, save_held

_OF_TRUST = "trust-"
"""How the problems begin that a device has with a bundle."""

_log = logging.getLogger(__name__)


async def note_state(context: Context, identity: Identity, body: bytes) -> None:
    """Keep what a device tells on its state topic; what cannot be read or kept is logged."""
    if not context.by_device.allow(f"state {identity.name}", now=context.clock()):
        return  # its next connection tells again
    try:
        report = StateReport.parse(body)
        problem = report.problem or ""
        told = _held(context, identity, report.anchors, report.trust)
        await _keep(context, replace(told, problem=problem if problem.startswith(_OF_TRUST) else ""))
        await _keep_version(context, identity, report.agent)
        await hear_state(context, identity, report)
    except MalformedMessageError as error:
        _log.info("the state of %s cannot be read: %s", identity.name, error)
    except FleetError as error:
        _log.warning("the state of %s is not kept: %s", identity.name, error)


async def note_holding(context: Context, speaker: Speaker, request: Renew | Done) -> None:
    """Keep what a request tells; an older agent tells nothing.

    Raises:
        FleetError: the store does not answer.
    """
    if not request.anchors and not request.trust:
        return
    told = _held(context, speaker.identity, request.anchors, request.trust)
    before = await context.store.read(load_held, speaker.identity)
    await _keep(context, replace(told, problem="" if before is None else before.problem))


async def _keep_version(context: Context, identity: Identity, version: str) -> None:
    told = TellsVersion(identity=identity, version=version)
    if await context.store.read(is_news, told):
        await context.store.write(set_version, told)


def _held(context: Context, identity: Identity, anchors: tuple[str, ...], trust: TrustVersions) -> HeldTrust:
    versions = dict(trust)
    return HeldTrust(
        identity=identity,
        anchors=anchors,
        own_version=versions.get(identity.domain, 0),
        server_version=versions.get(FLEET_REALM, 0),
        reported_at=context.clock().replace(microsecond=0),
    )


async def _keep(context: Context, told: HeldTrust) -> None:
    """Write what is news; a state that is retained comes again with every start of the server."""
    known = await context.store.read(load_held, told.identity)
    if known is None or replace(known, reported_at=told.reported_at) != told:
        await context.store.write(note, told)


async def note(tx: Transaction, told: HeldTrust) -> None:
    """Keep what a registered device tells; a bundle that it refused is put on the audit trail, once."""
    if await load_record(tx, told.identity) is None:
        return
    known = await load_held(tx, told.identity)
    await save_held(tx, told)
    await stir(tx, told.identity)
    if told.problem and (known is None or known.problem != told.problem):
        await audit.append(tx, _refusal(told))


def _refusal(told: HeldTrust) -> AuditEntry:
    return AuditEntry(
        at=told.reported_at,
        action="trust.refused",
        actor=f"device:{told.identity.name}",
        domain=told.identity.domain,
        device_id=told.identity.device_id,
        details=(
            ("problem", told.problem),
            ("own_version", str(told.own_version)),
            ("server_version", str(told.server_version)),
        ),
    )
