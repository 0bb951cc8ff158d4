"""All that can happen next in a world: devices, network, server, clocks, operators, faults."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.core import events
from fleet.model import CertificateState, ClientKind
from tests.exploration.agents import Agents, DeviceCore
from tests.exploration.plain import PlainClients
from tests.exploration.server import TO_SERVER, Message, Server, ServerCore, number_of
from tests.exploration.world import Fault, Past, Pool, World, spend

State = CertificateState


class Next(NamedTuple):
    """A step; a fault is one that nobody must count on."""

    text: str
    is_fault: bool
    world: World
    device: int | None = None
    message: int | None = None


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Where a world starts, and how much may go wrong in it."""

    name: str
    budget: dict[Fault, int]
    start: str = "working"
    """`working`, `claimed`, or `thief`: two devices with one code."""
    kind: ClientKind = ClientKind.AGENT
    same_key: bool = False
    keys: int = 3
    net: int = 3
    signing: int = 2
    """How many signatures are made at a time."""
    carries_on: bool = False
    """The operator may decide that an alarm was no clone."""
    replaces: bool = False
    """The operator may decide that it was one, or that a code was stolen."""


@dataclass
class Steps:
    """The steps of all worlds of one scenario."""

    scenario: Scenario
    server_core: ServerCore = field(default_factory=ServerCore)
    device_core: DeviceCore = field(default_factory=DeviceCore)
    keeps_list_by_changes: bool = False
    """A wrong broker list: kept by changes alone, which a crash can lose."""

    def __post_init__(self) -> None:
        self.messages: Pool[Message] = Pool()
        self.server = Server(core=self.server_core, messages=self.messages)
        self.clients: Agents | PlainClients
        if self.scenario.kind is ClientKind.AGENT:
            self.clients = Agents(core=self.device_core, server=self.server, messages=self.messages)
        else:
            self.clients = PlainClients(
                server=self.server, messages=self.messages, same_key=self.scenario.same_key
            )

    def describe(self, step: Next) -> str:
        """Return a step in words."""
        who = "" if step.device is None else f"device {step.device} "
        what = "" if step.message is None else f" {_in_words(self.messages[step.message])}"
        return f"{who}{step.text}{what}"

    def successors(self, world: World) -> Iterator[Next]:
        yield from self._devices(world)
        yield from self._network(world)
        yield from self._signatures(world)
        yield from self._broker(world)
        yield from self._clocks(world)
        yield from self._operator(world)
        yield from self._disasters(world)

    # Devices.

    def _devices(self, world: World) -> Iterator[Next]:
        for index, device in enumerate(world.devices):
            for move in self.clients.moves(world, device):
                after = world
                if move.held is not None:
                    if move.makes_key and world.keys >= self.scenario.keys:
                        continue
                    after = world._replace(
                        devices=_set(world.devices, index, move.held), keys=world.keys + move.makes_key
                    )
                if move.message is not None:
                    if move.message in world.net or len(world.net) >= self.scenario.net:
                        continue
                    after = world._replace(
                        net=world.net | {move.message},
                        clock=max(world.clock, move.clock),
                        stale=move.clock if move.stale else world.stale,
                    )
                yield Next(move.label, False, after, device=index, message=move.message)
            for label, after in self.clients.faults(world, index):
                yield Next(label, True, after, device=index)

    # Network: any message, in any order; lost or delivered twice within the budget.

    def _network(self, world: World) -> Iterator[Next]:
        for message in world.net:
            rest = world.net - {message}
            if world.budget[Fault.LOSS]:
                budget = spend(world, Fault.LOSS)
                yield Next("LOST:", True, world._replace(net=rest, budget=budget), message=message)
            yield from self._deliver(world._replace(net=rest), message, is_fault=False)
            if world.budget[Fault.DUPLICATE]:
                kept = world._replace(budget=spend(world, Fault.DUPLICATE))
                yield from self._deliver(kept, message, is_fault=True)

    def _deliver(self, world: World, message: int, *, is_fault: bool) -> Iterator[Next]:
        if isinstance(self.messages[message], TO_SERVER):
            yield from self._hear(world, message, is_fault=is_fault)
            return
        for index, device in enumerate(world.devices):
            found = self.clients.receive(device, message)
            if found == device:
                after = world
            else:
                after = world._replace(devices=_set(world.devices, index, found))
                after = self._count_turns(after, device, found, index)
            yield Next("gets", is_fault, after, device=index, message=message)

    def _hear(self, world: World, message: int, *, is_fault: bool) -> Iterator[Next]:
        outcome = self.server.hear(world.server, message, anchor=world.anchor, past=world.past)
        after = world._replace(server=outcome.server)
        if outcome.signing is not None:
            if len(world.signing) >= self.scenario.signing:
                return
            signing = world.signing | {(outcome.signing, message)}
            yield Next(
                "server intends to sign for", is_fault, after._replace(signing=signing), message=message
            )
            return
        answered = self._answer(world, after, outcome.reply)
        yield Next("server hears", is_fault, answered, message=message)
        if world.budget[Fault.CRASH] and (outcome.server != world.server or outcome.reply is not None):
            after = after._replace(budget=spend(world, Fault.CRASH), signing=frozenset())
            yield Next("server CRASHES before it answers", True, after, message=message)

    def _answer(self, before: World, after: World, reply: int | None) -> World:
        if self.keeps_list_by_changes:
            old, new = self.server.view(before.server).admitted, self.server.view(after.server).admitted
            after = after._replace(allowlist=(after.allowlist | (new - old)) - (old - new))
        if reply is None or reply in after.net or len(after.net) >= self.scenario.net:
            return after
        return after._replace(net=after.net | {reply})

    def _signatures(self, world: World) -> Iterator[Next]:
        for job in world.signing:
            server, reply = self.server.sign(world.server, *job)
            after = world._replace(server=server, signing=world.signing - {job})
            answered = self._answer(world, after, reply)
            yield Next("a signature is on record for", False, answered, message=job[1])
            if world.budget[Fault.CRASH]:
                budget = spend(world, Fault.CRASH)
                crashed = after._replace(signing=frozenset(), budget=budget)
                yield Next("CRASH between record and answer for", True, crashed, message=job[1])
        if world.signing and world.budget[Fault.CRASH]:
            after = world._replace(signing=frozenset(), budget=spend(world, Fault.CRASH))
            yield Next("CRASH between signature and commit", True, after)

    # Broker, clocks, operators.

    def _broker(self, world: World) -> Iterator[Next]:
        admitted = self.server.view(world.server).admitted
        if world.allowlist != admitted and not self.keeps_list_by_changes:
            yield Next("the broker has the list", False, world._replace(allowlist=admitted))

    def _clocks(self, world: World) -> Iterator[Next]:
        view, budget = self.server.view(world.server), world.budget
        for certificate in view.issued:
            yield from self._pending_time(world, certificate.serial, certificate.key_hash)
            if certificate.issued_stamp is None and isinstance(self.clients, PlainClients):
                stamped = events.IssueStamped(serial=certificate.serial, stamp=world.clock)
                after = world._replace(server=self.server.apply(world.server, stamped), clock=world.clock + 1)
                yield Next("a stamp after an issue is known", False, after)
        for serial, state in view.states.items():
            if budget[Fault.EXPIRE] and state in (State.ISSUED, State.ACTIVE):
                after = world._replace(
                    server=self.server.apply(world.server, events.Expired(serial=serial)),
                    allowlist=world.allowlist - {serial},
                    budget=spend(world, Fault.EXPIRE),
                    ghost=world.ghost._replace(expired=True),
                )
                yield Next(f"{state} {serial[-2:]} EXPIRES", True, after)
            if budget[Fault.GRACE] and state in (State.EXPIRED_GRACE, State.EXPIRED_UNUSED):
                server = self.server.apply(world.server, events.GraceOver(serial=serial))
                ghost = world.ghost._replace(grace_over=True)
                after = world._replace(server=server, budget=spend(world, Fault.GRACE), ghost=ghost)
                yield Next(f"grace of {serial[-2:]} is over", True, after)

    def _pending_time(self, world: World, serial: str, key_hash: str) -> Iterator[Next]:
        server = self.server.apply(world.server, events.Unconfirmed(serial=serial))
        if server == world.server:
            return
        if not any(self.clients.may_confirm(device, key_hash) for device in world.devices):
            after = world._replace(server=server)
            yield Next("an abandoned certificate times out", False, after)
        elif world.budget[Fault.EARLY]:
            after = world._replace(server=server, budget=spend(world, Fault.EARLY))
            yield Next("a certificate TIMES OUT EARLY", True, after)

    def _operator(self, world: World) -> Iterator[Next]:
        view, budget, device = self.server.view(world.server), world.budget, world.devices[0]
        if budget[Fault.REVOKE] and view.states:
            server = self.server.apply(world.server, events.Revoke())
            ghost = world.ghost._replace(revoked=True)
            after = world._replace(server=server, budget=spend(world, Fault.REVOKE), ghost=ghost)
            yield Next("operator REVOKES", True, after)
        if budget[Fault.SUSPEND] and not view.device.suspended:
            server = self.server.apply(world.server, events.Suspend())
            after = world._replace(server=server, budget=spend(world, Fault.SUSPEND))
            yield Next("operator SUSPENDS", True, after)
        if view.device.suspended:
            server = self.server.apply(world.server, events.Resume())
            yield Next("operator resumes", False, world._replace(server=server))
        if budget[Fault.NEW_CODE] and isinstance(self.clients, Agents):
            yield from self._new_code(world, device)
        if budget[Fault.CODE] and not view.device.alarm:
            coded = self._coded(world, events.Grant(code_id=f"t{budget[Fault.CODE]}"), Fault.CODE)
            yield Next("operator gives a code WHATEVER it does", True, coded)
        if world.past.frozen:
            yield Next("operator unfreezes", False, world._replace(past=world.past._replace(frozen=False)))
        if budget[Fault.RESOLVE]:
            yield from self._resolve(world)

    def _new_code(self, world: World, device: int) -> Iterator[Next]:
        view = self.server.view(world.server)
        assert isinstance(self.clients, Agents)
        record = self.clients.held[device].record
        in_need = record.active is None or not view.admitted or world.ghost.wiped
        if record.proof or record.pending or view.device.alarm or not in_need:
            return
        yield Next(
            "operator gives a NEW CODE", True, self._coded(world, events.Grant(code_id="c2"), Fault.NEW_CODE)
        )

    def _coded(self, world: World, act: events.Grant | events.Replace, fault: Fault) -> World:
        assert isinstance(self.clients, Agents)
        first = self.clients.give_code(world.devices[0], act.code_id)
        return world._replace(
            server=self.server.apply(world.server, act),
            devices=_set(world.devices, 0, first),
            budget=spend(world, fault),
            ghost=world.ghost._replace(revoked=False),
        )

    def _resolve(self, world: World) -> Iterator[Next]:
        device = self.server.view(world.server).device
        budget = spend(world, Fault.RESOLVE)
        if device.alarm and self.scenario.carries_on:
            ghost = world.ghost._replace(restored=False, turns=0, resolved="same")
            server = self.server.apply(world.server, events.CarryOn())
            yield Next(
                "operator: the same device", False, world._replace(server=server, ghost=ghost, budget=budget)
            )
        if not self.scenario.replaces or not (device.alarm or device.code_conflict):
            return
        if device.code_conflict and self._holder_is_first(world):
            server = self.server.apply(world.server, events.DismissConflict())
            yield Next("operator: the holder is right", False, world._replace(server=server, budget=budget))
            return
        after = self._coded(world, events.Replace(code_id=f"r{budget[Fault.RESOLVE]}"), Fault.RESOLVE)
        ghost = after.ghost._replace(resolved="replaced")
        yield Next("operator: a CLONE or a THIEF", False, after._replace(ghost=ghost))

    def _holder_is_first(self, world: World) -> bool:
        codes = self.server.view(world.server).device.codes
        bound = [code.key_hash for code in codes if code.key_hash is not None]
        return any(self.clients.holds_key(world.devices[0], key_hash) for key_hash in bound)

    def _disasters(self, world: World) -> Iterator[Next]:
        budget, ghost, first = world.budget, world.ghost, world.devices[0]
        if budget[Fault.CLONE]:
            after = world._replace(
                devices=(*world.devices, first),
                ghost=ghost._replace(fork=world.keys),
                budget=spend(world, Fault.CLONE),
            )
            yield Next("a CLONE is taken", True, after)
        if budget[Fault.SNAPSHOT]:
            after = world._replace(ghost=ghost._replace(image=first), budget=spend(world, Fault.SNAPSHOT))
            yield Next("an image is saved", True, after)
        if budget[Fault.ROLLBACK] and ghost.image not in (-1, first):
            after = world._replace(
                devices=_set(world.devices, 0, ghost.image),
                ghost=ghost._replace(image=-1, restored=True),
                budget=spend(world, Fault.ROLLBACK),
            )
            yield Next("the image is RESTORED", True, after)
        if budget[Fault.ROLLOVER] and world.anchor == "anchor 1":
            after = world._replace(anchor="anchor 2", budget=spend(world, Fault.ROLLOVER))
            yield Next("the authority ROLLS OVER", True, after)
        if budget[Fault.BUNDLE]:
            yield from self._bundles(world)
        if budget[Fault.BROKER_LOST]:
            after = world._replace(allowlist=frozenset(), budget=spend(world, Fault.BROKER_LOST))
            yield Next("the broker's list is LOST", True, after)
        yield from self._restores(world)

    def _restores(self, world: World) -> Iterator[Next]:
        """Yield what a lost server comes back as: the backup was made when the story began.

        What it was at is lost with it. Brokers get the whole list from what came back.
        """
        view, first = self.server.view(world.server), 0
        lost = world._replace(signing=frozenset(), allowlist=frozenset())
        if world.budget[Fault.RESTORE]:
            known = self.server.view(first).states
            past = world.past._replace(gone=frozenset(view.states) - frozenset(known))
            server = self.server.restore(world.server, first)
            after = lost._replace(server=server, past=past, budget=spend(world, Fault.RESTORE))
            yield Next("the server is LOST and restored with its trail", True, after)
        if world.budget[Fault.RESTORE_BARE]:
            highest = number_of(max(view.states, default=None))
            past = Past(frozen=True, highest=highest)
            budget = spend(world, Fault.RESTORE_BARE)
            ghost = world.ghost._replace(forgotten=True)
            after = lost._replace(server=first, past=past, budget=budget, ghost=ghost)
            yield Next("the server is LOST and restored without its trail", True, after)

    def _bundles(self, world: World) -> Iterator[Next]:
        """Yield what trust bundles do: published before the switch or after it, then when the old root goes.

        Nobody is told of that before the broker has the list of all that came before.
        """
        assert isinstance(self.clients, Agents)
        view = self.server.view(world.server)
        both, new = ("anchor 1", "anchor 2"), ("anchor 2",)
        takes: list[tuple[str, tuple[str, ...]]] = [("the bundle with both roots", both)]
        if world.anchor == "anchor 2" and self.server_core.unneeded(view.device):
            takes.append(("the bundle of the new root alone", new))
        for label, anchors in takes:
            device = self.clients.believing(world.devices[0], anchors, admitted=view.admitted)
            if device != world.devices[0]:
                devices, budget = _set(world.devices, 0, device), spend(world, Fault.BUNDLE)
                yield Next(f"takes {label}", True, world._replace(devices=devices, budget=budget), device=0)

    def _count_turns(self, world: World, before: int, after: int, index: int) -> World:
        """Remember when another copy than last time came to use a key made after the fork."""
        ghost = world.ghost
        if ghost.fork < 0 or not isinstance(self.clients, Agents):
            return world
        old, new = self.clients.held[before].record.active, self.clients.held[after].record.active
        if new is None or new == old or int(new.key_hash, 16) <= ghost.fork:
            return world
        turns, last = divmod(ghost.turns, 10)
        turns += last not in (0, index + 1)
        return world._replace(ghost=ghost._replace(turns=turns * 10 + index + 1))


def _set(devices: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*devices[:index], value, *devices[index + 1 :])


def _in_words(message: Message) -> str:
    """Return a message with its long numbers cut to what differs."""
    return re.sub(r"'0{20,}([0-9a-f]{2})'", r"\1", str(message))
