"""Visits every world that can be reached, and asks two things of each: is it safe, and can it end well?"""

import gc
import itertools
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

from device_agent.core.record import Anchor, DeviceRecord
from tests.exploration.agents import DeviceCore, Held, proof
from tests.exploration.checks import Checks, is_good
from tests.exploration.plain import PlainClients, PlainHeld, PlainSlot
from tests.exploration.server import (
    BrokenError,
    ServerCore,
    claimed,
    credential,
    working,
)
from tests.exploration.steps import Scenario, Steps
from tests.exploration.world import World, budget_of

NO_WAY = "I1, I2 or I8: no way leads to a good quiet world without a fault"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a search found."""

    name: str
    states: int
    steps: int
    depth: int
    worst_way: int
    """The most steps that a good quiet world is away."""
    seconds: float
    violation: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        verdict = self.violation or "clean"
        return (
            f"{self.name:10} {self.states:>8} states {self.steps:>9} steps, depth {self.depth:>2}, "
            f"worst way {self.worst_way:>2}, {self.seconds:5.1f} s: {verdict}"
        )


class TooManyStatesError(Exception):
    """The scenario is larger than the test allows: nothing is proven."""


def first_world(steps: Steps) -> World:
    """Return where a scenario starts."""
    scenario, server = steps.scenario, steps.server
    is_working = scenario.start == "working"
    # Who enrolls brings its kind along, whatever it was registered as.
    device = replace(working("anchor 1"), kind=scenario.kind) if is_working else claimed()
    record = server.records.number(device)
    devices = (_device(steps, record),) * (2 if scenario.start == "thief" else 1)
    return World(
        devices=devices,
        server=record,
        allowlist=server.view(record).admitted,
        net=frozenset(),
        signing=frozenset(),
        keys=1 if is_working else 0,
        clock=1,
        stale=0,
        anchor="anchor 1",
        budget=budget_of(scenario.budget),
    )


def explore(
    scenario: Scenario,
    *,
    server_core: ServerCore | None = None,
    device_core: DeviceCore | None = None,
    keeps_list_by_changes: bool = False,
    most_states: int = 1_500_000,
) -> Result:
    """Visit every world of a scenario, or stop at the first that is broken."""
    steps = Steps(
        scenario,
        server_core=server_core or ServerCore(),
        device_core=device_core or DeviceCore(),
        keeps_list_by_changes=keeps_list_by_changes,
    )
    # Worlds make no cycles, and there are too many of them to look for some again and again.
    gc.disable()
    try:
        return _Search(steps, most_states=most_states).run()
    finally:
        gc.enable()


class _Search:
    def __init__(self, steps: Steps, *, most_states: int) -> None:
        self.steps = steps
        self.checks = Checks(steps)
        self.most_states = most_states
        first = first_world(steps)
        self.numbers: dict[World, int] = {first: 0}
        self.worlds: list[World] = [first]
        self.parents = array("l", [-1])
        self.depths = array("l", [0])
        # Steps without a fault, backwards: by which worlds can each be reached.
        self.sources = array("l")
        self.targets = array("l")
        self.taken = 0

    def run(self) -> Result:
        began = time.perf_counter()
        violation, at, last = self._visit()
        worst = 0
        if violation is None:
            worst, at = self._longest_way_to_good()
            violation = None if at is None else NO_WAY
        seconds = time.perf_counter() - began
        return Result(
            name=self.steps.scenario.name,
            states=len(self.worlds),
            steps=self.taken,
            depth=max(self.depths),
            worst_way=worst,
            seconds=seconds,
            violation=violation,
            trace=() if at is None else (*self._trace(at), *last),
        )

    def _visit(self) -> tuple[str | None, int | None, Sequence[str]]:
        for here, world in enumerate(self.worlds):  # grows while it is walked
            if (found := self.checks.broken(world)) is not None:
                return found, here, ()
            try:
                self._expand(here, world)
            except BrokenError as error:
                return str(error), here, ("and then",)
        return None, None, ()

    def _expand(self, here: int, world: World) -> None:
        for step in self.steps.successors(world):
            self.taken += 1
            after = step.world
            there = self.numbers.get(after)
            if there is None:
                there = self._add(after, here)
            if not step.is_fault and there != here:
                self.sources.append(here)
                self.targets.append(there)

    def _add(self, world: World, parent: int) -> int:
        number = self.numbers[world] = len(self.worlds)
        if number >= self.most_states:
            raise TooManyStatesError(f"{self.steps.scenario.name}: more than {self.most_states} states")
        self.worlds.append(world)
        self.parents.append(parent)
        self.depths.append(self.depths[parent] + 1)
        return number

    def _longest_way_to_good(self) -> tuple[int, int | None]:
        """Walk back from all good worlds; return the longest way, and a world that has none."""
        before: list[list[int]] = [[] for _ in self.worlds]
        for source, target in zip(self.sources, self.targets, strict=True):
            before[target].append(source)
        ways = array("l", [-1]) * len(self.worlds)
        front = [number for number, world in enumerate(self.worlds) if is_good(self.steps, world)]
        for number in front:
            ways[number] = 0
        for number in front:  # grows while it is walked
            for source in before[number]:
                if ways[source] < 0:
                    ways[source] = ways[number] + 1
                    front.append(source)
        stuck = next((number for number, way in enumerate(ways) if way < 0), None)
        return max(ways), stuck

    def _trace(self, number: int) -> list[str]:
        """Return the steps that led to a world."""
        path = [number]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        path.reverse()
        worlds = [self.worlds[found] for found in path]
        return [self._label(one, other) for one, other in itertools.pairwise(worlds)]

    def _label(self, world: World, after: World) -> str:
        step = next(step for step in self.steps.successors(world) if step.world == after)
        return self.steps.describe(step)


def _device(steps: Steps, record: int) -> int:
    device = steps.server.records[record]
    anchors = (Anchor(fingerprint="anchor 1", pem=""),)
    first = device.certificates[0] if device.certificates else None
    if isinstance(steps.clients, PlainClients):
        slot = None if first is None else PlainSlot(first.key_hash, first.serial, first.anchor)
        return steps.clients.held.number(PlainHeld(active=slot, code="" if slot else "c1"))
    if first is None:
        return steps.clients.held.number(Held(DeviceRecord(anchors=anchors, proof=proof("c1"))))
    active = credential(first, "key 1")
    return steps.clients.held.number(
        Held(DeviceRecord(active=active, attempt=1, anchors=anchors, drop_acked=True))
    )
