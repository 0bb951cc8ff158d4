"""Tells devices: those of the wave whose turn it is, or, on the way back, those that were told before.

A page of devices is changed, noted and wanted to be told in one commit, judged on the rollout as it stands
then: whoever pauses or halts it stops the next page, and a stop of the server leaves no device in between.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from fleet.core.rollout import DeviceEvent, DeviceState, RolloutEvent, RolloutState, device_after
from fleet.core.rollout_plan import Rollout
from fleet.ports import Transaction
from fleet.ra.campaigns.changes import Change, take_back, tell
from fleet.ra.campaigns.records import SERVER, Step, find, take
from fleet.store import rollout_devices
from fleet.store.rollout_devices import Moved, Page, RolloutDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """How many devices of a rollout may be told now."""

    name: str
    limit: int
    at: datetime


async def tell_next(tx: Transaction, turn: Turn) -> int:
    """Tell the next devices of the wave that is under way; return how many of it have had their turn."""
    rollout = await find(tx, turn.name)
    if rollout.state is not RolloutState.RUNNING:
        return 0
    page = Page(rollout=rollout.number, wave=rollout.wave, limit=turn.limit)
    found = await rollout_devices.in_turn(tx, page)
    gone = [one for one in found if one.facts.out_of_service]
    there = tuple(one for one in found if not one.facts.out_of_service)
    before = await tell(tx, Change(rollout=rollout, devices=there, at=turn.at))
    moves = [_moved(one, DeviceEvent.GONE, reason=one.facts.out_of_service) for one in gone]
    for one, was in before:
        told = _moved(one, DeviceEvent.TELL)
        moves.append(replace(told, serial=one.facts.serial, was=was))
    await rollout_devices.save_moves(tx, rollout.number, moves, at=turn.at)
    return len(found)


async def tell_back(tx: Transaction, turn: Turn) -> int:
    """Tell devices to go back; note the end of the roll-back with the last of them; return how many."""
    rollout = await find(tx, turn.name)
    if rollout.state is not RolloutState.ROLLING_BACK:
        return 0
    found = await rollout_devices.to_undo(tx, Page(rollout=rollout.number, limit=turn.limit))
    await take_back(tx, Change(rollout=rollout, devices=found, at=turn.at))
    moves = [_moved(one, DeviceEvent.UNDO, reason=_stood(one)) for one in found]
    await rollout_devices.save_moves(tx, rollout.number, moves, at=turn.at)
    if len(found) < turn.limit:
        await _undone(tx, rollout, turn.at)
    return len(found)


def _stood(device: RolloutDevice) -> str:
    """Return how a device stood that is told to go back: who failed is looked for afterwards, too."""
    state = device.facts.state.value
    return f"{state} before: {device.reason}" if device.reason else ""


async def _undone(tx: Transaction, rollout: Rollout, at: datetime) -> None:
    reason = "all who were told are told to go back"
    step = Step(name=rollout.plan.name, event=RolloutEvent.UNDONE, actor=SERVER, at=at, reason=reason)
    await take(tx, rollout, step)


def _moved(device: RolloutDevice, event: DeviceEvent, *, reason: str = "") -> Moved:
    before: DeviceState = device.facts.state
    return Moved(
        identity=device.identity,
        wave=device.wave,
        before=before,
        after=device_after(before, event),
        reason=reason,
    )
