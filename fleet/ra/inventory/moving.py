"""Operators send devices on their way; each step, with what it does to the devices, is one commit.

Whoever is cut off finds it whole, or not begun. A code is shown once, to whoever made it.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from device_agent.wire.identity import Identity
from fleet.core import events
from fleet.core.lineage import highest_serial
from fleet.core.marking import Marks, changes_of
from fleet.core.moving import BEGINNINGS, OPEN, Move, MoveAct, MoveEvent, MoveKind, Step, follow
from fleet.errors import FleetError, NotFoundError, RefusedError
from fleet.model import AuditEntry, CutOff, Device, RevocationReason
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.ra.devices import (
    Enlisting,
    Registration,
    enlist,
    require_device,
    require_domain,
    require_in_service,
)
from fleet.ra.judging import Circumstances, settle
from fleet.ra.people.claims import CODE_BYTES, CODE_ID_BYTES, NewCode, format_code
from fleet.store import audit, keys, moves, waiting
from fleet.store.attributes import vouched
from fleet.store.codes import Grant, GrantKind, code_hash
from fleet.store.devices import load_record, mark_retired
from fleet.store.marks import marks_of, save_marks

_ENDINGS = {
    MoveAct.EXCHANGE: RevocationReason.SUPERSEDED,
    MoveAct.LEAVE: RevocationReason.AFFILIATION_CHANGED,
    MoveAct.WITHDRAW: RevocationReason.CESSATION_OF_OPERATION,
    MoveAct.RETIRE: RevocationReason.CESSATION_OF_OPERATION,
}
_WITH_CODE = frozenset({MoveAct.ADMIT, MoveAct.EXCHANGE})
_LETS_IN = _WITH_CODE | {MoveAct.RESUME}
_REPLACED = "its device was replaced"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOrder:
    """What an operator orders; `lifetime` is that of a code."""

    actor: str
    lifetime: timedelta = timedelta(days=7)
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Where a move stands now; the code, where one was made; and whom it cut off."""

    move: Move
    code: NewCode | None = None
    cut_offs: tuple[CutOff, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beginning:
    kind: MoveKind
    identity: Identity
    target: Identity
    order: MoveOrder
    code: NewCode
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One step of a move that is under way."""

    identity: Identity
    event: MoveEvent
    order: MoveOrder
    code: NewCode
    at: datetime


async def begin(desk: Desk, kind: MoveKind, identity: Identity, *, to: str, order: MoveOrder) -> Moved:
    """Send a device on its way; `to` is another domain for a transfer, and its own else.

    Raises:
        NotFoundError: it is not registered, or there is no such domain.
        RefusedError: it is on its way already, was retired, or is in use where it goes.
    """
    require_domain(desk, to)
    target = Identity(domain=to, device_id=identity.device_id)
    if (target == identity) is (kind is MoveKind.TRANSFER):
        raise RefusedError(f"{identity.name} is in {to} already", hint="fleet domain list")
    beginning = _Beginning(
        kind=kind,
        identity=identity,
        target=target,
        order=order,
        code=_new_code(desk, target, order),
        at=desk.clock(),
    )
    return await _enforced(desk, BEGINNINGS[kind], await desk.store.write(_begin, beginning), beginning.code)


async def advance(desk: Desk, identity: Identity, event: MoveEvent, *, order: MoveOrder) -> Moved:
    """Take a device that is on its way one step further.

    Raises:
        NotFoundError: it is not on its way.
        RefusedError: this is no step from where it stands.
    """
    move = await show(desk, identity)
    turn = _Turn(
        identity=identity, event=event, order=order, code=_new_code(desk, move.target, order), at=desk.clock()
    )
    step = follow(move, event)
    return await _enforced(desk, step, await desk.store.write(_advance, turn), turn.code)


async def show(desk: Desk, identity: Identity) -> Move:
    """Return the newest move of a device; raises `NotFoundError`."""
    move = await desk.store.read(moves.newest_move, identity)
    if move is None:
        raise NotFoundError(f"{identity.name} was never on its way", hint="fleet move list")
    return move


async def finish_arrived(desk: Desk) -> None:
    """End the moves whose new certificate is confirmed: only now the old one goes.

    A transfer of a device that was kept out meanwhile is cancelled: its code would be a way in.
    """
    for find, event in ((moves.arrived, MoveEvent.ARRIVE), (moves.unwelcome, MoveEvent.CANCEL)):
        for move in await desk.store.read(find, None):
            try:
                await advance(desk, move.identity, event, order=MoveOrder(actor="server"))
            except FleetError as error:
                _log.warning("the move of %s does not end: %s", move.identity.name, error)


async def _enforced(desk: Desk, step: Step, done: tuple[Move, int | None], code: NewCode) -> Moved:
    move, sequence = done
    if step.act in _ENDINGS:
        desk.crls.note_change()
    elif step.act is not MoveAct.NOTHING:
        desk.crls.note_superseded()
    cut_offs = () if sequence is None else await desk.broker.reach(sequence)
    return Moved(move=move, code=code if step.act in _WITH_CODE else None, cut_offs=cut_offs)


def _new_code(desk: Desk, target: Identity, order: MoveOrder) -> NewCode:
    return NewCode(
        identity=target,
        code_id=desk.randomness(CODE_ID_BYTES).hex(),
        code=format_code(desk.randomness(CODE_BYTES)),
        expires_at=desk.clock() + order.lifetime,
    )


async def _begin(tx: Transaction, beginning: _Beginning) -> tuple[Move, int | None]:
    await require_in_service(tx, beginning.identity)
    newest = await moves.newest_move(tx, beginning.identity)
    towards = await moves.open_towards(tx, beginning.identity)
    under_way = newest if newest is not None and newest.state in OPEN else towards
    if under_way is not None:
        raise RefusedError(
            f"{beginning.identity.name} is on its way already: a {under_way.kind} that is {under_way.state}",
            hint=f"fleet move show {under_way.identity.name}",
        )
    if beginning.kind is MoveKind.TRANSFER:
        await _prepare_target(tx, beginning)
    step = BEGINNINGS[beginning.kind]
    move = Move(
        number=await moves.next_number(tx),
        kind=beginning.kind,
        state=step.state,
        identity=beginning.identity,
        target=beginning.target,
        started_at=beginning.at.replace(microsecond=0),
        started_by=beginning.order.actor,
        changed_at=beginning.at.replace(microsecond=0),
    )
    return await _take(tx, move, step, order=beginning.order, code=beginning.code, at=beginning.at)


async def _advance(tx: Transaction, turn: _Turn) -> tuple[Move, int | None]:
    move = await moves.newest_move(tx, turn.identity)
    if move is None:
        raise NotFoundError(f"{turn.identity.name} was never on its way", hint="fleet move list")
    step = follow(move, turn.event)
    if step == Step(state=move.state):
        return move, None
    moved = replace(move, state=step.state, changed_at=turn.at.replace(microsecond=0))
    return await _take(tx, moved, step, order=turn.order, code=turn.code, at=turn.at)


async def _take(
    tx: Transaction, move: Move, step: Step, *, order: MoveOrder, code: NewCode, at: datetime
) -> tuple[Move, int | None]:
    """Do what a step does to the devices, and put on record where the move stands now."""
    concerned = move.target if step.act in {MoveAct.ADMIT, MoveAct.WITHDRAW} else move.identity
    device = await require_device(tx, concerned)
    if step.act in _LETS_IN:
        await require_in_service(tx, concerned)
    if step.act is MoveAct.ADMIT:
        await _require_welcome(tx, move.identity)
    if step.act in _WITH_CODE:
        move = replace(move, above=highest_serial(device) or "")
    sequence = await _act(tx, device, step.act, order=order, code=code, at=at)
    await moves.save_move(tx, move)
    await audit.append_many(tx, _entries(move, order, at))
    return move, sequence


async def _act(
    tx: Transaction, device: Device, act: MoveAct, *, order: MoveOrder, code: NewCode, at: datetime
) -> int | None:
    if act is MoveAct.NOTHING:
        return None
    if act is MoveAct.EXCHANGE:
        await _block_keys(tx, device, actor=order.actor, at=at)
    if act is MoveAct.RETIRE:
        await mark_retired(tx, device.identity, at)
        await waiting.drop_waiting(tx, device.identity)
    reason = _ENDINGS.get(act, RevocationReason.UNSPECIFIED)
    circumstances = Circumstances(at=at, actor=order.actor, reason=reason)
    grants = (_grant(code, order),) if act in _WITH_CODE else ()
    judged = await settle(tx, device, _events(device, act, code), circumstances, grants)
    if isinstance(judged.verdict, events.Nothing):
        raise RefusedError(
            f"{device.identity.name}: {judged.verdict.reason}",
            hint=f"fleet device explain {device.identity.name}",
            code=judged.verdict.code,
        )
    return judged.sequence


def _events(device: Device, act: MoveAct, code: NewCode) -> tuple[events.Event, ...]:
    match act:
        case MoveAct.SUSPEND:
            return (events.Suspend(),)
        case MoveAct.RESUME:
            return (events.Resume(),)
        case MoveAct.ADMIT:
            return (events.Replace(code_id=code.code_id),)
        case MoveAct.EXCHANGE:
            # All that was suspended is revoked in the same commit: what takes over is other hardware.
            fresh = (events.Replace(code_id=code.code_id),)
            return (*fresh, events.Resume()) if device.suspended else fresh
        case _:
            return (events.Revoke(),)


async def _require_welcome(tx: Transaction, identity: Identity) -> None:
    """Refuse to give a device that is kept out a way in elsewhere."""
    device = await require_in_service(tx, identity)
    if device.revoked or device.suspended or device.alarm or device.code_conflict:
        raise RefusedError(
            f"{identity.name} is kept out, and gets no certificate elsewhere",
            hint=f"fleet device explain {identity.name}",
        )


async def _block_keys(tx: Transaction, device: Device, *, actor: str, at: datetime) -> None:
    """See to it that the keys of hardware that was replaced are certified no more, whoever has them."""
    for key in sorted({one.key_hash for one in device.certificates if one.key_hash}):
        if await keys.block_key(tx, key, reason=_REPLACED, at=at, by=actor):
            details = (("key_hash", key), ("reason", _REPLACED))
            await audit.append(tx, AuditEntry(at=at, action="key.blocked", actor=actor, details=details))


async def _prepare_target(tx: Transaction, beginning: _Beginning) -> None:
    """Register a device where it goes, with all that is known of it; refuse whoever is there already."""
    known = await load_record(tx, beginning.target)
    if known is not None:
        there = await require_in_service(tx, beginning.target)
        if there.current is not None and not there.revoked:
            raise RefusedError(
                f"{beginning.target.name} is there already, and has a certificate",
                hint=f"fleet device show {beginning.target.name}",
            )
    record = await load_record(tx, beginning.identity)
    assert record is not None  # noqa: S101 - it is in service, as was looked at
    registration = Registration(
        identity=beginning.target, kind=record.kind, hardware=record.hardware, note=record.note
    )
    enlisting = Enlisting(registrations=(registration,), actor=beginning.order.actor, at=beginning.at)
    await enlist(tx, enlisting)
    await _carry_marks(tx, beginning)


async def _carry_marks(tx: Transaction, beginning: _Beginning) -> None:
    """Take along what operators know; what the device has said of itself, it says again."""
    said = await vouched(tx, beginning.identity)
    carried = replace(await marks_of(tx, beginning.identity), version="", attributes=said)
    before = replace(await marks_of(tx, beginning.target), version="")
    if carried in {before, Marks()}:
        return
    source = beginning.order.actor
    await save_marks(tx, beginning.target, before, after=carried, source=source)
    entry = AuditEntry(
        at=beginning.at,
        action="device.marked",
        actor=source,
        domain=beginning.target.domain,
        device_id=beginning.target.device_id,
        details=changes_of(before, carried),
    )
    await audit.append(tx, entry)


def _grant(code: NewCode, order: MoveOrder) -> Grant:
    return Grant(
        code_id=code.code_id,
        kind=GrantKind.CODE,
        source=order.actor,
        code_hash=code_hash(code.code),
        expires_at=code.expires_at,
    )


def _entries(move: Move, order: MoveOrder, at: datetime) -> tuple[AuditEntry, ...]:
    """Tell it in the story of the device, and, where it becomes another one, in that one's, too."""
    details = (
        ("number", str(move.number)),
        ("kind", move.kind.value),
        ("state", move.state.value),
        ("from", move.identity.name),
        ("to", move.target.name),
        ("above", move.above),
        ("started_by", move.started_by),
        ("reason", order.reason),
    )
    return tuple(
        AuditEntry(
            at=at,
            action="device.moved",
            actor=order.actor,
            domain=identity.domain,
            device_id=identity.device_id,
            details=tuple((name, value) for name, value in details if value),
        )
        for identity in dict.fromkeys((move.identity, move.target))
    )
