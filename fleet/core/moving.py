"""Devices on their way: to another domain, to other hardware, to the workshop and back. One table.

In doubt hardware is kept out, never let in: what is revoked stays so, and what takes over comes after it.
What is ordered twice changes nothing the second time; what is not in the table is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from device_agent.wire.identity import Identity
from fleet.errors import RefusedError


class MoveKind(StrEnum):
    """Where a device goes; stored by name."""

    TRANSFER = "transfer"
    """To another domain: a certificate there first, then none here."""
    REPLACEMENT = "replacement"
    """Other hardware takes over its id: the old one is out at once, and for good."""
    RETURN = "return"
    """It comes back to us, and is kept out until somebody decides."""


class MoveState(StrEnum):
    """Where it stands; stored by name."""

    HELD = "held"
    """With us, kept out."""
    AWAY = "away"
    """Sent to whoever mends it, kept out."""
    WAITING = "waiting"
    """A code was handed out, and no new certificate is confirmed yet."""
    DONE = "done"
    SCRAPPED = "scrapped"
    """It will not come back: retired."""
    CANCELLED = "cancelled"


OPEN = frozenset({MoveState.HELD, MoveState.AWAY, MoveState.WAITING})
"""Of one device, one move at a time is open."""

KEPT_OUT = frozenset({MoveState.HELD, MoveState.AWAY})
"""Only a decision about the move lets the hardware in again."""


class MoveEvent(StrEnum):
    """What happens to it."""

    SEND = "send"
    READMIT = "readmit"
    """The same hardware goes on, with the key that it has."""
    REPLACE = "replace"
    """Other hardware takes over; once more, if the code was lost."""
    CODE = "code"
    """Another code, for the first was lost or too late."""
    ARRIVE = "arrive"
    """The new certificate is confirmed."""
    SCRAP = "scrap"
    CANCEL = "cancel"


class MoveAct(StrEnum):
    """What the same commit does to the devices."""

    NOTHING = "nothing"
    SUSPEND = "suspend"
    RESUME = "resume"
    ADMIT = "admit"
    """Register it where it goes, and admit one key there by a code."""
    EXCHANGE = "exchange"
    """Revoke all that it has, block those keys, and admit one other key by a code."""
    LEAVE = "leave"
    """Revoke all that it has where it was."""
    WITHDRAW = "withdraw"
    """Close the code where it was to go, and revoke what was made there."""
    RETIRE = "retire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What follows from an event."""

    state: MoveState
    act: MoveAct = MoveAct.NOTHING


_Kind, _State, _Event, _Act = MoveKind, MoveState, MoveEvent, MoveAct

BEGINNINGS: Mapping[MoveKind, Step] = MappingProxyType(
    {
        _Kind.TRANSFER: Step(state=_State.WAITING, act=_Act.ADMIT),
        _Kind.REPLACEMENT: Step(state=_State.WAITING, act=_Act.EXCHANGE),
        _Kind.RETURN: Step(state=_State.HELD, act=_Act.SUSPEND),
    }
)


def _steps() -> dict[tuple[MoveKind, MoveState, MoveEvent], Step]:
    done, scrapped = Step(state=_State.DONE), Step(state=_State.SCRAPPED)
    exchange = Step(state=_State.WAITING, act=_Act.EXCHANGE)
    retire = Step(state=_State.SCRAPPED, act=_Act.RETIRE)
    steps = {
        (_Kind.TRANSFER, _State.WAITING, _Event.CODE): Step(state=_State.WAITING, act=_Act.ADMIT),
        (_Kind.TRANSFER, _State.WAITING, _Event.ARRIVE): Step(state=_State.DONE, act=_Act.LEAVE),
        (_Kind.TRANSFER, _State.WAITING, _Event.CANCEL): Step(state=_State.CANCELLED, act=_Act.WITHDRAW),
        (_Kind.TRANSFER, _State.CANCELLED, _Event.CANCEL): Step(state=_State.CANCELLED),
        (_Kind.TRANSFER, _State.DONE, _Event.ARRIVE): done,
    }
    for kind in (_Kind.REPLACEMENT, _Kind.RETURN):
        steps |= {
            (kind, _State.WAITING, _Event.CODE): exchange,
            (kind, _State.WAITING, _Event.REPLACE): exchange,
            (kind, _State.WAITING, _Event.ARRIVE): done,
            (kind, _State.WAITING, _Event.SCRAP): retire,
            (kind, _State.DONE, _Event.ARRIVE): done,
            (kind, _State.SCRAPPED, _Event.SCRAP): scrapped,
        }
    for state in KEPT_OUT:
        steps |= {
            (_Kind.RETURN, state, _Event.SEND): Step(state=_State.AWAY),
            (_Kind.RETURN, state, _Event.READMIT): Step(state=_State.DONE, act=_Act.RESUME),
            (_Kind.RETURN, state, _Event.REPLACE): exchange,
            (_Kind.RETURN, state, _Event.SCRAP): retire,
        }
    return steps


TRANSITIONS: Mapping[tuple[MoveKind, MoveState, MoveEvent], Step] = MappingProxyType(_steps())


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One of a device; `target` is what it is where it goes, itself where it stays in its domain."""

    number: int
    kind: MoveKind
    state: MoveState
    identity: Identity
    target: Identity
    above: str = ""
    """The serial that a new certificate must be newer than: the newest one when the code was made."""
    started_at: datetime
    started_by: str
    changed_at: datetime


def follow(move: Move, event: MoveEvent) -> Step:
    """Return what follows from an event.

    Raises:
        RefusedError: a move of this kind does not take it where it stands.
    """
    step = TRANSITIONS.get((move.kind, move.state, event))
    if step is None:
        raise RefusedError(
            f"{move.identity.name}: a {move.kind} that is {move.state} takes no {event}",
            hint=f"fleet move show {move.identity.name}",
        )
    return step
