"""The day on which an issuing CA's key is lost or in other hands: others sign, and its devices move.

What has to happen at once goes first: it signs no more, and whoever can takes its place. Every part is on
record by itself and is done once, so that the order may be given again after any failure.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from device_agent.wire.identity import serial_hex
from fleet.ca.crl import read_crl
from fleet.ca.hierarchy import Root
from fleet.ca.issuer import Issuer
from fleet.core.authority import ISSUES, AuthorityEvent, AuthorityRecord, AuthorityState, KeyKind
from fleet.core.rollover import Need
from fleet.errors import FleetError, NotFoundError, RefusedError
from fleet.model import AuditEntry, CertificateState, RevocationReason
from fleet.ports import Transaction
from fleet.ra.authority.authorities import (
    activate_authority,
    judge_activation,
    reload_authority,
    unlock_authority,
)
from fleet.ra.authority_changes import Change, change, find
from fleet.ra.context import Context
from fleet.ra.own.own_renewal import follow_own
from fleet.ra.requests.hastening import Haste, hasten
from fleet.ra.succession.rollover_steps import Mode
from fleet.store import audit
from fleet.store.authorities import list_authorities
from fleet.store.certificates import CertificateRecord, end_certificate, load_certificate
from fleet.store.notices import count_due
from fleet.store.rollovers import NeedQuery, who_needs

_A_DAY = timedelta(days=1)

_log = logging.getLogger(__name__)


class Loss(StrEnum):
    """What has happened to a CA's key."""

    LOST = "lost"
    """It cannot be used any more, and nobody else has it."""
    COMPROMISED = "compromised"
    """Somebody else may have it."""


class Admission(StrEnum):
    """What becomes of the leaves while their devices move."""

    GO_ON = "go-on"
    """They connect: brokers compare each certificate with the one on record, which no thief can forge."""
    CUT_OFF = "cut-off"
    """They connect no more; devices come back by the recovery listener."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOrder:
    """What an operator orders on that day."""

    name: str
    loss: Loss
    actor: str
    at: datetime
    within: timedelta | None = None
    """In which all devices are to move; None: a day, or at once where they are cut off."""
    admission: Admission = Admission.GO_ON
    successor: str = ""
    """The CA that takes over; none: one that is active already, or the first that stands by."""
    brings_key: bool = False
    """In a rehearsal: the successor's key was put away, and would be brought back before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOutcome:
    """What was done, or in a rehearsal what would be."""

    name: str
    state: AuthorityState
    successor: str | None
    """Who signs now; None: nobody, and devices wait."""
    revoked: str | None
    """The serial that the root's list must name; None where nothing was revoked."""
    root: str
    root_knows: bool
    """The root's list in force names it, or need not."""
    hastened: int
    """Devices that this order made due."""
    due: int
    """All that were made due since the loss."""
    need: Need
    """Who still lives by it."""
    problems: tuple[str, ...] = ()


async def rehearse_loss(context: Context, order: LossOrder) -> LossOutcome:
    """Return what the order would do, by the judgement of the act itself; nothing is changed.

    Raises:
        NotFoundError: there is no such CA. RefusedError: it is a root.
    """
    record = await _issuing(context, order.name)
    successor, problems = await _take_place(context, record, order, mode=Mode.REHEARSE)
    found = await _outcome(context, record, successor, hastened=0)
    return replace(found, problems=tuple(problems))


async def give_up(context: Context, order: LossOrder) -> LossOutcome:
    """Stop a CA, let another take its place, revoke it if it was compromised, and have its devices move.

    Raises:
        NotFoundError: there is no such CA. RefusedError: it is a root.
        FleetError: something is not done yet; what was done stays, and the order may be given again.
    """
    record = await _issuing(context, order.name)
    successor, problems = await _take_place(context, record, order, mode=Mode.ACT)
    own = context.authority.issuer_by_id(record.issuer)
    order = await asyncio.to_thread(_without_key, context, own, order)
    stopping = Stopping(record=record, serial=serial_hex(own.certificate.serial_number), order=order)
    async with context.in_force.changing:
        await context.store.write(stop_lost, stopping)
    try:
        await reload_authority(context)
        if successor is not None:
            await follow_own(context, frozenset({record.purpose}))
    except FleetError as error:
        problems.append(str(error))
    context.crls.note_change()
    is_cut_off = order.admission is Admission.CUT_OFF
    within = order.within if order.within is not None else timedelta() if is_cut_off else _A_DAY
    haste = Haste(issuer=record.issuer, begins=order.at, within=within, actor=order.actor)
    hastened = await hasten(context, haste)
    record = await context.store.read(find, record.folder)
    found = await _outcome(context, record, successor, hastened=hastened)
    return replace(found, problems=tuple(problems))


def _without_key(context: Context, issuer: Issuer, order: LossOrder) -> LossOrder:
    """Cut the leaves off where the key is gone: without a fresh list of its CA no broker lets anybody in.

    They would go on for as long as the list lasts, and the server could not start again.
    """
    record = next(one for one in context.authority.records if one.issuer == issuer.issuer_id)
    if record.key is KeyKind.FILE and not context.home.authority_files(record.folder).ca.key.exists():
        return replace(order, admission=Admission.CUT_OFF)
    try:
        issuer.signer.unlock()
    except FleetError:
        return replace(order, admission=Admission.CUT_OFF)
    return order


async def _issuing(context: Context, name: str) -> AuthorityRecord:
    record = await context.store.read(find, name)
    if record.is_root:
        raise RefusedError(
            f"{name} is a root: it is followed by another, and what a thief made with its key is not undone",
            hint=f"fleet ca rollover prepare {record.realm}",
        )
    return record


async def _heirs(context: Context, lost: AuthorityRecord, order: LossOrder) -> list[AuthorityRecord]:
    """Return who could take over: those that sign already first, then those that stand by with their key."""
    records = await context.store.read(list_authorities, None)
    kin = [
        one
        for one in records
        if (one.realm, one.purpose) == (lost.realm, lost.purpose) and one.folder != lost.folder
    ]
    if order.successor:
        kin = [one for one in kin if order.successor in {one.folder, one.issuer}]
        if not kin:
            raise NotFoundError(
                f"there is no CA {order.successor} that could take the place of {lost.folder}",
                hint="fleet ca list",
            )
    active = [one for one in kin if one.state in ISSUES]
    standing_by = [
        one for one in kin if one.state is AuthorityState.STANDBY and one.key is not KeyKind.ELSEWHERE
    ]
    return [*active, *standing_by]


async def _take_place(
    context: Context, lost: AuthorityRecord, order: LossOrder, *, mode: Mode
) -> tuple[str | None, list[str]]:
    """Let the first heir sign that can; return its name, and what keeps those before it from it."""
    problems: list[str] = []
    for heir in await _heirs(context, lost, order):
        if heir.state in ISSUES:
            return heir.folder, problems
        try:
            await (_judge(context, heir, order) if mode is Mode.REHEARSE else _let(context, heir, order))
        except FleetError as error:
            if mode is Mode.ACT:
                _log.warning("%s cannot take over: %s", heir.folder, error)
            problems.append(f"{heir.folder} cannot take over: {error}")
        else:
            return heir.folder, problems
    return None, problems


async def _let(context: Context, heir: AuthorityRecord, order: LossOrder) -> None:
    await activate_authority(context, heir.folder, actor=order.actor)


async def _judge(context: Context, heir: AuthorityRecord, order: LossOrder) -> None:
    if not order.brings_key:
        await unlock_authority(context, heir)
    await judge_activation(context, heir.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """What one commit records of a loss."""

    record: AuthorityRecord
    serial: str
    """Of its own certificate."""
    order: LossOrder


async def stop_lost(tx: Transaction, stopping: Stopping) -> None:
    """Record that a CA signs no more, and what is to be believed of what it signed."""
    record, order = stopping.record, stopping.order
    told = (("loss", order.loss.value),)
    what = Change(name=record.folder, actor=order.actor, at=order.at, details=told)
    if (await find(tx, record.folder)).state is AuthorityState.ACTIVE:
        await change(tx, AuthorityEvent.STOPPED, what)
    if order.loss is Loss.COMPROMISED:
        await _revoke(tx, stopping)
    if order.admission is Admission.GO_ON:
        return
    if order.loss is Loss.COMPROMISED:
        await change(tx, AuthorityEvent.COMPROMISED, what)
    elif (await find(tx, record.folder)).state is AuthorityState.RETIRING:
        await change(tx, AuthorityEvent.RETIRED, what)


async def _revoke(tx: Transaction, stopping: Stopping) -> None:
    """Take back the CA's own certificate, where it is one of ours; its key is never certified again."""
    order, row = stopping.order, await load_certificate(tx, stopping.serial)
    if row is None or row.state is CertificateState.REVOKED:
        return
    await end_certificate(
        tx, row.serial, state=CertificateState.REVOKED, reason=RevocationReason.CA_COMPROMISE, at=order.at
    )
    entry = AuditEntry(
        at=order.at,
        action="certificate.revoked",
        actor=order.actor,
        serial=row.serial,
        details=_told(row),
    )
    await audit.append(tx, entry)


def _told(row: CertificateRecord) -> tuple[tuple[str, str], ...]:
    """Return what the trail must hold for a home without this CA to put it on its root's list again."""
    told = (
        ("reason", RevocationReason.CA_COMPROMISE.value),
        ("purpose", row.purpose.value),
        ("name", row.name),
        ("key", row.life.key_hash),
        ("issuer", row.issuer),
        ("anchor", row.life.anchor),
    )
    return tuple((name, value) for name, value in told if value)


async def _outcome(
    context: Context, record: AuthorityRecord, successor: str | None, *, hastened: int
) -> LossOutcome:
    issuer = context.authority.issuer_by_id(record.issuer)
    root = next(one for one in context.authority.roots if one.anchor == issuer.anchor)
    serial = serial_hex(issuer.certificate.serial_number)
    row = await context.store.read(load_certificate, serial)
    revoked = serial if row is not None and row.state is CertificateState.REVOKED else None
    return LossOutcome(
        name=record.folder,
        state=record.state,
        successor=successor,
        revoked=revoked,
        root=root.record.folder,
        root_knows=revoked is None or _names(root, serial),
        hastened=hastened,
        due=await context.store.read(count_due, record.issuer),
        need=await context.store.read(who_needs, NeedQuery(issuers=(record.issuer,))),
    )


def _names(root: Root, serial: str) -> bool:
    """Tell whether the list of a root that is in force names a certificate."""
    return root.crl is not None and serial in read_crl(root.crl, root.certificate).serials
