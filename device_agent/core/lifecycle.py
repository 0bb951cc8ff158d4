"""The device's half of the life of a certificate, as one table.

A row takes the record and an event. It returns the next record, to be written by ONE durable write
before anything else happens, and then the actions, each of which may be repeated at any later time.
Two rules hold in every row:

1. What the server did not say is not known: a failure, a refusal or a time-out deletes no certificate.
2. A slot is given up only when the server has answered for this very slot, `confirmed` or `dead`; when its
   key is gone; or, beside a certificate that is held, when the proof that it was made for is refused.

Never does any of the actions, and never judges a certificate: `acceptance` has done so before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from device_agent.core.events import (
    Action,
    Answer,
    Ask,
    Confirmed,
    Dead,
    Disowned,
    DoneAck,
    Event,
    Failed,
    ForgetKey,
    Heard,
    KeyLost,
    KeyMade,
    MakeKey,
    ProofGiven,
    ProofRefused,
    Reported,
    Route,
    Send,
    Step,
    Tick,
)
from device_agent.core.record import DeviceRecord, Pending
from device_agent.wire.replies import ReportedState


class State(StrEnum):
    """Where a device stands; derived from its record, never stored beside it."""

    BLANK = "blank"
    CLAIMED = "claimed"
    """Holds what admits it, and no key yet."""
    ENROLLING = "enrolling"
    """Holds a key for its first certificate."""
    RENEWING = "renewing"
    """Holds a key for its next certificate."""
    CONFIRMING = "confirming"
    """Holds a new certificate that the server does not know to work."""
    SETTLING = "settling"
    """Holds one certificate, and the server does not know that it holds no other."""
    SETTLED = "settled"


def state_of(record: DeviceRecord) -> State:
    """Return where the device stands."""
    if record.pending is not None:
        if record.pending.credential is not None:
            return State.CONFIRMING
        return State.RENEWING if record.proof is None else State.ENROLLING
    if record.proof is not None:
        return State.CLAIMED
    if record.active is None:
        return State.BLANK
    return State.SETTLED if record.drop_acked else State.SETTLING


_E = TypeVar("_E", bound=Event)
Row: TypeAlias = Callable[[DeviceRecord, _E], Step]


def keep(record: DeviceRecord, _event: Event) -> Step:
    """Change nothing, do nothing."""
    return Step(record=record)


def make_key(record: DeviceRecord, _event: Event) -> Step:
    """Make a key."""
    return Step(record=record, actions=(MakeKey(),))


def enroll(record: DeviceRecord, _event: Tick | KeyMade) -> Step:
    """Ask for the first certificate, with the same key each time."""
    return Step(record=record, actions=(Send(ask=Ask.ENROLL, route=Route.CLAIM),))


def renew(record: DeviceRecord, event: Tick | KeyMade) -> Step:
    """Ask for the next certificate, same key and attempt; at recovery if the active one is refused."""
    route = Route.ACTIVE if event.facts.usable(Route.ACTIVE) else Route.RECOVERY
    return Step(record=record, actions=(Send(ask=Ask.RENEW, route=route),))


def confirm(record: DeviceRecord, event: Tick) -> Step:
    """Confirm by the pending certificate; if that is refused, at recovery, and renew again by the active."""
    if event.facts.usable(Route.PENDING):
        return Step(record=record, actions=(Send(ask=Ask.CONFIRM, route=Route.PENDING),))
    actions: tuple[Action, ...] = (Send(ask=Ask.CONFIRM, route=Route.RECOVERY),)
    if record.active is not None and record.proof is None and event.facts.usable(Route.ACTIVE):
        actions += (Send(ask=Ask.RENEW, route=Route.ACTIVE),)
    return Step(record=record, actions=actions)


def look_after(record: DeviceRecord, event: Tick) -> Step:
    """Make a key if renewal is due; ask why if the active certificate is refused; else rest."""
    if event.facts.due or event.facts.expired:
        return make_key(record, event)
    if not event.facts.usable(Route.ACTIVE):
        return Step(record=record, actions=(Send(ask=Ask.STATUS, route=Route.RECOVERY),))
    return Step(record=record)


def settle(record: DeviceRecord, event: Tick) -> Step:
    """As a settled device; when there is nothing else to do, say that the older slot is gone."""
    step = look_after(record, event)
    return step if step.actions else Step(record=record, actions=(Send(ask=Ask.DONE, route=Route.ACTIVE),))


def take_proof(record: DeviceRecord, event: ProofGiven) -> Step:
    """Hold the new proof and drop the pending key; the same proof again changes nothing."""
    if record.proof == event.proof:
        return Step(record=record)
    # A key that an older proof was bound to would be refused for ever: its code names another key.
    forget = () if record.pending is None else (ForgetKey(key=record.pending.key),)
    return Step(record=replace(record, proof=event.proof, pending=None), actions=(*forget, MakeKey()))


def drop_proof(record: DeviceRecord, event: ProofRefused) -> Step:
    """Where a certificate is held, drop the proof and the key that it was for: what it has goes on."""
    pending = record.pending
    if record.active is None or pending is None or pending.key_hash != event.key_hash:
        return Step(record=record)
    return Step(record=replace(record, proof=None, pending=None), actions=(ForgetKey(key=pending.key),))


def lose_key(record: DeviceRecord, event: KeyLost) -> Step:
    """Drop the pending slot whose key is gone; another key, and a higher attempt, are the way on."""
    if record.pending is None or record.pending.key != event.key:
        return Step(record=record)
    return Step(record=replace(record, pending=None))


def take_key(record: DeviceRecord, event: KeyMade) -> Step:
    """Put the key into the pending slot and count the attempt, in one write; then ask for its certificate."""
    attempt = record.attempt + 1
    pending = Pending(key=event.key, key_hash=event.key_hash, attempt=attempt)
    after = replace(record, pending=pending, attempt=attempt)
    return enroll(after, event) if after.proof is not None else renew(after, event)


def discard(record: DeviceRecord, event: KeyMade) -> Step:
    """Destroy a key that nobody waits for."""
    held = {slot.key for slot in (record.active, record.pending) if slot is not None}
    return Step(record=record, actions=() if event.key in held else (ForgetKey(key=event.key),))


def install(record: DeviceRecord, event: Answer) -> Step:
    """Put a certificate for the pending key, newer than what is there, beside it; then connect with it."""
    pending, new = record.pending, event.credential
    if pending is None or new.key_hash != pending.key_hash:
        return Step(record=record)
    if pending.credential is not None and new.serial <= pending.credential.serial:
        return Step(record=record)
    known = {anchor.fingerprint for anchor in record.anchors}
    after = replace(
        record,
        pending=replace(pending, credential=replace(new, key=pending.key)),
        anchors=record.anchors + tuple(a for a in event.anchors if a.fingerprint not in known),
        attempt=max(record.attempt, event.attempt_floor),
    )
    return Step(record=after, actions=(Send(ask=Ask.CONFIRM, route=Route.PENDING),))


def activate(record: DeviceRecord, event: Confirmed) -> Step:
    """Make the pending slot the active one; then say that the older one is gone."""
    pending, old = record.pending, record.active
    if pending is None or pending.credential is None or pending.credential.serial != event.serial:
        return Step(record=record)
    after = replace(record, active=pending.credential, pending=None, proof=None, drop_acked=False)
    forget = () if old is None or old.key == pending.key else (ForgetKey(key=old.key),)
    return Step(record=after, actions=(*forget, Send(ask=Ask.DONE, route=Route.ACTIVE)))


def give_up(record: DeviceRecord, event: Dead) -> Step:
    """Drop the pending key; with a proof held, which is bound to the key, drop only its certificate."""
    pending = record.pending
    if pending is None or pending.key_hash != event.key_hash:
        return Step(record=record)
    if record.proof is not None:
        return Step(record=replace(record, pending=replace(pending, credential=None)))
    after = replace(record, pending=None, attempt=max(record.attempt, event.attempt_floor))
    return Step(record=after, actions=(ForgetKey(key=pending.key),))


def enroll_again(record: DeviceRecord, event: Disowned) -> Step:
    """With a proof held, drop the certificate and keep the key: what the proof gives now is on record."""
    pending = record.pending
    if record.proof is None or pending is None or pending.credential is None:
        return Step(record=record)  # without one it is renewed by the active certificate anyway
    if pending.credential.serial != event.serial:
        return Step(record=record)
    return Step(record=replace(record, pending=replace(pending, credential=None)))


def note_drop(record: DeviceRecord, event: DoneAck) -> Step:
    """Remember that the server knows."""
    if record.active is None or record.active.serial != event.serial:
        return Step(record=record)
    return Step(record=replace(record, drop_acked=True))


_RENEWED_AT_RECOVERY = frozenset({ReportedState.SUPERSEDED, ReportedState.EXPIRED})


def recover(record: DeviceRecord, event: Reported) -> Step:
    """Make a key if the active certificate is superseded, its successor's slot lost, or has expired."""
    is_active = record.active is not None and record.active.serial == event.serial
    # That it has expired, the server may know better: a clock that is behind would never tell.
    if is_active and event.state in _RENEWED_AT_RECOVERY:
        return make_key(record, event)
    return Step(record=record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """For each event, a row for each state."""

    tick: Mapping[State, Row[Tick]]
    proof_given: Mapping[State, Row[ProofGiven]]
    proof_refused: Mapping[State, Row[ProofRefused]]
    key_made: Mapping[State, Row[KeyMade]]
    key_lost: Mapping[State, Row[KeyLost]]
    answer: Mapping[State, Row[Answer]]
    confirmed: Mapping[State, Row[Confirmed]]
    dead: Mapping[State, Row[Dead]]
    disowned: Mapping[State, Row[Disowned]]
    done_ack: Mapping[State, Row[DoneAck]]
    reported: Mapping[State, Row[Reported]]
    failed: Mapping[State, Row[Failed]]


def _across(*rows: Row[_E]) -> Mapping[State, Row[_E]]:
    return MappingProxyType(dict(zip(State, rows, strict=True)))


# fmt: off
TABLE = Table(
    # state:              blank       claimed     enrolling   renewing    confirming  settling    settled
    tick=         _across(keep,       make_key,   enroll,     renew,      confirm,    settle,     look_after),
    proof_given=  _across(take_proof, take_proof, take_proof, take_proof, take_proof, take_proof, take_proof),
    proof_refused=_across(keep,       keep,       drop_proof, keep,       keep,       keep,       keep),
    key_made=     _across(discard,    take_key,   discard,    discard,    discard,    take_key,   take_key),
    key_lost=     _across(keep,       keep,       lose_key,   lose_key,   lose_key,   keep,       keep),
    answer=       _across(keep,       keep,       install,    install,    install,    keep,       keep),
    confirmed=    _across(keep,       keep,       keep,       keep,       activate,   keep,       keep),
    dead=         _across(keep,       keep,       keep,       give_up,    give_up,    keep,       keep),
    disowned=     _across(keep,       keep,       keep,       keep,       enroll_again, keep,     keep),
    done_ack=     _across(keep,       note_drop,  note_drop,  note_drop,  note_drop,  note_drop,  keep),
    reported=     _across(keep,       keep,       keep,       keep,       keep,       recover,    recover),
    failed=       _across(keep,       keep,       keep,       keep,       keep,       keep,       keep),
)
# fmt: on


def step(record: DeviceRecord, event: Event, *, table: Table = TABLE) -> Step:
    """Return the next record and what to do after it was written."""
    state = state_of(record)
    match event:
        case Tick():
            return table.tick[state](record, event)
        case ProofGiven():
            return table.proof_given[state](record, event)
        case KeyMade():
            return table.key_made[state](record, event)
        case KeyLost():
            return table.key_lost[state](record, event)
        case _:
            return _heard(record, event, state, table)


def _heard(record: DeviceRecord, event: Heard, state: State, table: Table) -> Step:
    match event:
        case ProofRefused():
            return table.proof_refused[state](record, event)
        case Answer():
            return table.answer[state](record, event)
        case Confirmed():
            return table.confirmed[state](record, event)
        case Dead():
            return table.dead[state](record, event)
        case Disowned():
            return table.disowned[state](record, event)
        case DoneAck():
            return table.done_ack[state](record, event)
        case Reported():
            return table.reported[state](record, event)
        case Failed():
            return table.failed[state](record, event)
