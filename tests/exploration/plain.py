"""Plain clients in a world: they install what they get, and use it when they like.

There is no core of ours in them; this is what an EST client, or a device that lay in a box, may do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from device_agent.core import events as on_device
from fleet.core import events
from fleet.model import CertificateState, ClientKind
from tests.exploration.agents import Move
from tests.exploration.server import Message, Server, key_hash
from tests.exploration.world import Fault, Pool, World, spend

State = CertificateState
_EXPIRED = frozenset({State.EXPIRED_GRACE, State.EXPIRED_UNUSED})
_ASKS_AGAIN = _EXPIRED | {State.DEAD, State.SUPERSEDED}
_LAPSED = frozenset({State.EXPIRED_UNUSED, State.DEAD})


class PlainSlot(NamedTuple):
    key_hash: str
    serial: str = ""
    anchor: str = ""


class PlainHeld(NamedTuple):
    """What a plain client holds."""

    active: PlainSlot | None = None
    pending: PlainSlot | None = None
    code: str = ""
    due: bool = False


@dataclass
class PlainClients:
    """All plain clients of a world."""

    server: Server
    messages: Pool[Message]
    same_key: bool
    held: Pool[PlainHeld] = field(default_factory=Pool)

    def slots(self, device: int) -> Iterator[tuple[str, str, str]]:
        for slot in self.held[device][:2]:
            if isinstance(slot, PlainSlot) and slot.serial:
                yield slot.key_hash, slot.serial, slot.anchor

    def holds_key(self, device: int, wanted: str) -> bool:
        held = self.held[device]
        return any(slot is not None and slot.key_hash == wanted for slot in (held.active, held.pending))

    def may_confirm(self, device: int, wanted: str) -> bool:
        return self.holds_key(device, wanted)

    def has_code(self, device: int) -> bool:
        return bool(self.held[device].code)

    def active(self, device: int) -> str | None:
        active = self.held[device].active
        return None if active is None else active.serial

    def trusted(self, device: int) -> set[str]:
        return {anchor for _, _, anchor in self.slots(device)}

    def is_blank(self, device: int) -> bool:
        return self.held[device] == PlainHeld()

    def is_at_rest(self, device: int) -> bool:
        held = self.held[device]
        return held.pending is None and not held.due

    def moves(self, world: World, device: int) -> Iterator[Move]:
        held, states = self.held[device], self.server.view(world.server).states
        yield from self._connects(world, held, states)
        if held.pending is None:
            yield from self._begins(world, held, states)
        elif not held.pending.serial:
            yield from self._asks(held, held.pending)
        else:
            yield from self._installs(world, held, held.pending, states)

    def _connects(self, world: World, held: PlainHeld, states: dict[str, State]) -> Iterator[Move]:
        for slot in (held.active, held.pending):
            if slot is None or slot.serial not in world.allowlist:
                continue
            waits = any(state is State.ISSUED for state in states.values())
            if waits or states[slot.serial] is State.DEAD:
                connected = events.Connected(serial=slot.serial, stamp=world.clock)
                yield Move("connects:", message=self.messages.number(connected), clock=world.clock)

    def _begins(self, world: World, held: PlainHeld, states: dict[str, State]) -> Iterator[Move]:
        wants = held.active is not None and (held.due or states[held.active.serial] in _ASKS_AGAIN)
        if not held.code and not wants:
            return
        if self.same_key and held.active is not None and not held.code:
            after = held._replace(pending=PlainSlot(held.active.key_hash))
            yield Move("renews with the same key", held=self.held.number(after))
        else:
            after = held._replace(pending=PlainSlot(key_hash(world.keys + 1)))
            yield Move("makes a key", held=self.held.number(after), makes_key=True)

    def _asks(self, held: PlainHeld, pending: PlainSlot) -> Iterator[Move]:
        request: events.Request
        if held.code:
            request = events.Enroll(code_id=held.code, key_hash=pending.key_hash, kind=ClientKind.PLAIN)
        elif held.active is not None:
            request = events.Renew(parent=held.active.serial, key_hash=pending.key_hash)
        else:
            return
        yield Move("sends", message=self.messages.number(request))

    def _installs(
        self, world: World, held: PlainHeld, pending: PlainSlot, states: dict[str, State]
    ) -> Iterator[Move]:
        after = PlainHeld(active=pending)
        yield Move("drops the old, holds the new", held=self.held.number(after))
        has_lapsed = states[pending.serial] in _LAPSED
        if held.active is not None and has_lapsed and world.ghost.expired:
            yield Move("discards what expired", held=self.held.number(held._replace(pending=None)))
        if held.code and has_lapsed:
            yield from self._asks(held, pending)

    def receive(self, device: int, message: int) -> int:
        """An answer comes over the TLS connection of its request, so it belongs to its parent."""
        held, answer = self.held[device], self.messages[message]
        if not isinstance(answer, on_device.Answer) or held.pending is None:
            return device
        new = answer.credential
        is_mine = new.key_hash == held.pending.key_hash and new.serial > held.pending.serial
        active, parent = held.active, new.certificate
        fits = active is not None and active.serial == parent if parent else bool(held.code)
        if not is_mine or not fits:
            return device
        pending = PlainSlot(new.key_hash, new.serial, new.chain)
        return self.held.number(held._replace(pending=pending))

    def faults(self, world: World, index: int) -> Iterator[tuple[str, World]]:
        held, budget = self.held[world.devices[index]], world.budget
        if budget[Fault.DUE] and held.active is not None and not held.due and held.pending is None:
            yield "renewal falls due", self._with(world, index, held._replace(due=True), Fault.DUE)
        if budget[Fault.LOSE_SLOT] and held.pending is not None:
            after = self._with(world, index, held._replace(pending=None), Fault.LOSE_SLOT)
            yield "LOSES its pending slot", after._replace(ghost=world.ghost._replace(lost=True))

    def _with(self, world: World, index: int, held: PlainHeld, fault: Fault) -> World:
        devices = (*world.devices[:index], self.held.number(held), *world.devices[index + 1 :])
        return world._replace(devices=devices, budget=spend(world, fault))
