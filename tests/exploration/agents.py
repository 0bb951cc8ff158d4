"""The agents' part in a world: the real core of the device, one durable write or one send a step."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from device_agent.core import events as on_device
from device_agent.core import ladder, lifecycle
from device_agent.core.record import Anchor, DeviceRecord
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import ReportedState
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret
from fleet.core import events
from fleet.core.lifecycle import reported
from fleet.model import CertificateState, Device
from tests.exploration.server import Message, Server, key_hash, number_of
from tests.exploration.world import Fault, Pool, World, spend

State = CertificateState
_EXPIRED = frozenset({State.EXPIRED_GRACE, State.EXPIRED_FINAL, State.EXPIRED_UNUSED})
_SUPERSEDED = frozenset({State.SUPERSEDED, State.SUPERSEDED_ACKED})


class Held(NamedTuple):
    """A device: its record, whether its renewal is due, and whether the key of its certificate is gone."""

    record: DeviceRecord
    due: bool = False
    keyless: bool = False


class Move(NamedTuple):
    """One step of a device: a write, or a send."""

    label: str
    held: int | None = None
    message: int | None = None
    clock: int = 0
    stale: bool = False
    makes_key: bool = False


def proof(code_id: str) -> Proof:
    return Proof(kind=ProofKind.CODE, code=Secret(code_id))


def trusts(record: DeviceRecord, anchors: tuple[Anchor, ...]) -> bool:
    """Tell whether a chain to these anchors is accepted: trusted, or linked by an older trusted one."""
    links = {"anchor 2": "anchor 1"}
    known = {anchor.fingerprint for anchor in record.anchors}
    return all({one.fingerprint, links.get(one.fingerprint)} & known for one in anchors)


@dataclass(frozen=True, kw_only=True)
class DeviceCore:
    """What of the device's core is explored; a test may put a wrong rule into the place of one."""

    step: Callable[[DeviceRecord, on_device.Event], on_device.Step] = lifecycle.step
    trusts: Callable[[DeviceRecord, tuple[Anchor, ...]], bool] = trusts
    extra: Callable[[Held], Held | None] = lambda _held: None
    """A wrong step that a device takes by itself."""


@dataclass
class Agents:
    """All agents of a world."""

    core: DeviceCore
    server: Server
    messages: Pool[Message]
    held: Pool[Held] = field(default_factory=Pool)
    _moves: dict[tuple[int, ...], tuple[Move, ...]] = field(default_factory=dict)
    _received: dict[tuple[int, int], int] = field(default_factory=dict)

    def slots(self, device: int) -> Iterator[tuple[str, str, str]]:
        """Yield key hash, serial and anchor of each certificate that a device holds."""
        record = self.held[device].record
        pending = None if record.pending is None else record.pending.credential
        for slot in (record.active, pending):
            if slot is not None:
                yield slot.key_hash, slot.serial, slot.chain

    def holds_key(self, device: int, wanted: str) -> bool:
        record = self.held[device].record
        return any(slot is not None and slot.key_hash == wanted for slot in (record.active, record.pending))

    def may_confirm(self, device: int, wanted: str) -> bool:
        """Tell whether this device may still come with a key: it waits for it, and has a way to ask."""
        held = self.held[device]
        pending = held.record.pending
        if pending is None or pending.key_hash != wanted:
            return False
        has_no_way = held.keyless and held.record.proof is None
        return pending.credential is not None or not has_no_way

    def moves(self, world: World, device: int) -> tuple[Move, ...]:
        """Return what a device can do next; the same for all worlds that look the same to it."""
        record = self.held[device].record
        pending = record.pending.credential if record.pending else None
        active_in = record.active is not None and record.active.serial in world.allowlist
        pending_in = pending is not None and pending.serial in world.allowlist
        key = (device, world.server, active_in, pending_in, world.keys, world.clock, world.stale)
        found = self._moves.get(key)
        if found is None:
            refused = set() if active_in else {on_device.Route.ACTIVE}
            refused |= set() if pending_in else {on_device.Route.PENDING}
            found = self._moves[key] = tuple(self._find_moves(world, device, frozenset(refused)))
        return found

    def _find_moves(self, world: World, device: int, refused: frozenset[on_device.Route]) -> Iterator[Move]:
        held, view = self.held[device], self.server.view(world.server)
        record = held.record
        status = view.states.get(record.active.serial) if record.active else None
        facts = on_device.Facts(due=held.due, expired=status in _EXPIRED, refused=refused)
        step = self.core.step(record, on_device.Tick(facts=facts))
        actions = step.actions
        if held.keyless:
            actions = tuple(action for action in actions if _needs_no_old_key(action))
        if actions == (on_device.Send(ask=on_device.Ask.STATUS, route=on_device.Route.RECOVERY),):
            actions = self._after_status(record, view.device)
        for action in actions:
            yield from self._act(world, held, action, facts)
        yield from self._shown(world, held, view.device.alarm, view.states)
        if (wrong := self.core.extra(held)) is not None:
            yield Move("takes a wrong step", held=self.held.number(wrong))

    def _after_status(self, record: DeviceRecord, known: Device) -> tuple[on_device.Action, ...]:
        assert record.active is not None
        state = reported(known, record.active.serial)
        if state is None:
            return ()
        return self.core.step(record, on_device.Reported(serial=record.active.serial, state=state)).actions

    def _act(
        self, world: World, held: Held, action: on_device.Action, facts: on_device.Facts
    ) -> Iterator[Move]:
        record = held.record
        match action:
            case on_device.MakeKey():
                number = world.keys + 1
                made = on_device.KeyMade(key=f"key {number}", key_hash=key_hash(number), facts=facts)
                after = held._replace(record=self.core.step(record, made).record)
                yield Move(f"makes key {number}", held=self.held.number(after), makes_key=True)
            case on_device.Send():
                message, clock = self._message(record, action, world.clock)
                yield Move("sends", message=self.messages.number(message), clock=clock)
            case on_device.ForgetKey():
                raise AssertionError("a tick destroys no key")

    def _message(
        self, record: DeviceRecord, action: on_device.Send, clock: int
    ) -> tuple[events.Request, int]:
        active, pending = record.active, record.pending
        match action.ask:
            case on_device.Ask.ENROLL:
                assert record.proof is not None
                assert record.proof.code is not None
                assert pending is not None
                code_id = record.proof.code.reveal()
                return events.Enroll(code_id=code_id, key_hash=pending.key_hash), clock
            case on_device.Ask.CONFIRM:
                assert pending is not None
                assert pending.credential is not None
                return events.Confirm(serial=pending.credential.serial), clock
            case on_device.Ask.DONE:
                assert active is not None
                clock = max(clock, number_of(active.serial))
                return events.Done(serial=active.serial, stamp=4 * clock), clock
            case _:
                assert active is not None
                assert pending is not None
                clock = max(clock, number_of(active.serial))
                via = events.Via.ADMITTED if action.route is on_device.Route.ACTIVE else events.Via.RECOVERY
                renew = events.Renew(
                    parent=active.serial,
                    key_hash=pending.key_hash,
                    attempt=pending.attempt,
                    via=via,
                    stamp=4 * clock,
                )
                return renew, clock

    def _shown(self, world: World, held: Held, alarm: int, states: Mapping[str, State]) -> Iterator[Move]:
        """Yield what the broker tells of this device's connections.

        The order of stamps: done of serial n at 4n, then uses, a stale handshake at 4n+2, and later uses.
        """
        record = held.record
        pending = record.pending.credential if record.pending else None
        for slot in (pending, None if held.keyless else record.active):
            if slot is None:
                continue
            is_after = world.clock > number_of(slot.serial)
            if slot.serial not in world.allowlist and not alarm and states.get(slot.serial) in _SUPERSEDED:
                stamp = 4 * world.clock + 2 if is_after else 0
                message = self.messages.number(events.Refused(serial=slot.serial, stamp=stamp))
                yield Move("is refused:", message=message, clock=world.clock, stale=is_after)
            if slot.serial in world.allowlist and alarm == 1 and record.pending is None:
                stamp = 4 * world.clock + (3 if world.stale == world.clock else 1)
                message = self.messages.number(events.Connected(serial=slot.serial, stamp=stamp))
                yield Move("connects:", message=message, clock=world.clock)

    def receive(self, device: int, message: int) -> int:
        """Return the device after a message: what it writes; what it then sends is a step of its own."""
        key = (device, message)
        found = self._received.get(key)
        if found is None:
            held, event = self.held[device], self.messages[message]
            assert isinstance(event, on_device.Event)
            if isinstance(event, on_device.Answer) and not self.core.trusts(held.record, event.anchors):
                after = self.core.step(held.record, on_device.Failed())
            else:
                after = self.core.step(held.record, event)
            self._check(after)
            is_same = after.record.active == held.record.active
            known = Held(after.record, held.due and is_same, held.keyless and is_same)
            found = self._received[key] = self.held.number(known)
        return found

    def _check(self, step: on_device.Step) -> None:
        """A key is destroyed only when the written record does not name it."""
        held = {slot.key for slot in (step.record.active, step.record.pending) if slot is not None}
        for action in step.actions:
            assert not (isinstance(action, on_device.ForgetKey) and action.key in held)

    def faults(self, world: World, index: int) -> Iterator[tuple[str, World]]:
        """Yield what can befall one device."""
        device, budget = world.devices[index], world.budget
        held = self.held[device]
        record, ghost = held.record, world.ghost
        if budget[Fault.DUE] and record.active and not held.due and record.pending is None:
            yield "renewal falls due", self._with(world, index, held._replace(due=True), Fault.DUE)
        if budget[Fault.LOSE_SLOT] and record.pending is not None:
            without = self.core.step(record, on_device.KeyLost(key=record.pending.key)).record
            after = self._with(world, index, held._replace(record=without), Fault.LOSE_SLOT)
            yield "LOSES its pending key", after._replace(ghost=ghost._replace(lost=True))
        if budget[Fault.LOSE_KEY] and record.active is not None and not held.keyless:
            yield (
                "LOSES its active key",
                self._with(world, index, held._replace(keyless=True), Fault.LOSE_KEY),
            )
        if budget[Fault.WRONG_CODE] and record.active is not None and record.proof is None:
            wrong = self.core.step(record, on_device.ProofGiven(proof=proof("wrong"))).record
            yield (
                "is given a WRONG code",
                self._with(world, index, held._replace(record=wrong), Fault.WRONG_CODE),
            )
        if budget[Fault.WIPE] and (record.active or record.pending or record.proof):
            after = self._with(world, index, Held(DeviceRecord(anchors=record.anchors)), Fault.WIPE)
            yield "FACTORY RESET", after._replace(ghost=ghost._replace(wiped=True))

    def _with(self, world: World, index: int, held: Held, fault: Fault) -> World:
        devices = list(world.devices)
        devices[index] = self.held.number(held)
        return world._replace(devices=tuple(devices), budget=spend(world, fault))

    def give_code(self, device: int, code_id: str) -> int:
        """Return the device with a code handed to it."""
        held = self.held[device]
        step = self.core.step(held.record, on_device.ProofGiven(proof=proof(code_id)))
        return self.held.number(held._replace(record=step.record))

    def believing(self, device: int, anchors: tuple[str, ...], *, admitted: frozenset[str]) -> int:
        """Return the device with these anchors; one that gave the old one up takes it back from nobody.

        Where a slot would end nowhere, a connection with the active certificate is tried first.
        """
        held = self.held[device]
        is_rolled_back = {anchor.fingerprint for anchor in held.record.anchors} == {"anchor 2"}
        ends_nowhere = any(anchor not in anchors for _, _, anchor in self.slots(device))
        if is_rolled_back or (ends_nowhere and self.active(device) not in admitted):
            return device
        wanted = tuple(Anchor(fingerprint=name, pem="") for name in anchors)
        return self.held.number(held._replace(record=replace(held.record, anchors=wanted)))

    def has_code(self, device: int) -> bool:
        return self.held[device].record.proof is not None

    def active(self, device: int) -> str | None:
        active = self.held[device].record.active
        return None if active is None else active.serial

    def trusted(self, device: int) -> set[str]:
        return {anchor.fingerprint for anchor in self.held[device].record.anchors}

    def is_blank(self, device: int) -> bool:
        return lifecycle.state_of(self.held[device].record) is lifecycle.State.BLANK

    def rung(self, world: World, device: int) -> ladder.Rung:
        """Return on which rung the device finds itself, once it has asked what it would ask next."""
        held, view = self.held[device], self.server.view(world.server)
        record = held.record
        pending = None if record.pending is None else record.pending.credential
        slots = {slot.serial for slot in (record.active, pending) if slot is not None}
        shown = ladder.Shown(
            admitted=bool(slots & world.allowlist),
            has_key=not held.keyless,
            answer=self._told_at_recovery(record, view.device),
        )
        return ladder.rung_of(shown, before=ladder.Rung.CERTIFICATE)

    def _told_at_recovery(self, record: DeviceRecord, known: Device) -> ProblemCode | None:
        active, pending = record.active, record.pending
        assert active is not None
        state = reported(known, active.serial)
        if state is None:
            return ProblemCode.UNKNOWN_DEVICE
        if pending is None:
            return {
                ReportedState.REVOKED: ProblemCode.REVOKED,
                ReportedState.SUSPENDED: ProblemCode.SUSPENDED,
            }.get(state)
        renew = events.Renew(
            parent=active.serial, key_hash=pending.key_hash, attempt=pending.attempt, via=events.Via.RECOVERY
        )
        verdict = self.server.core.decide(known, renew).verdict
        return verdict.code if isinstance(verdict, events.Nothing) else None

    def is_at_rest(self, device: int) -> bool:
        """Tell whether a device has nothing left to do."""
        record, due, _ = self.held[device]
        return lifecycle.state_of(record) is lifecycle.State.SETTLED and not due


def _needs_no_old_key(action: on_device.Action) -> bool:
    """Tell whether an action can be done where the key of the active certificate is gone."""
    if not isinstance(action, on_device.Send):
        return True
    return (
        action.route in {on_device.Route.CLAIM, on_device.Route.PENDING}
        or action.ask is on_device.Ask.CONFIRM
    )
