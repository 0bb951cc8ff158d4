"""A station's bench for devices of other people: its clerk, its ledger, an authority in memory, and cuts."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.station.drivers.console import Console
from fleet.station.drivers.course import Course, Device
from fleet.station.drivers.driver import Driver, Seen
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitState
from fleet.station.keeping.units import Unit as LedgerUnit
from fleet.station.link import steps
from fleet.station.link.port import UnpluggedError
from fleet.station.link.steps import Step
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from tests.factory_floor import Floor, MemoryEnroller, fixed_clock
from tests.vendors.line import MemoryLine, Unit

FLOOR = Floor()
Make = Callable[[Console], Device]


@dataclass
class Bench:
    """One device on one bench; each visit has the ledger opened anew, as after a crash."""

    path: Path
    unit: Unit
    make: Make
    ending: str = "\r\n"
    prompt: str = ""
    enroller: MemoryEnroller = field(
        default_factory=lambda: replace(FLOOR.enroller, made={}, owners={}, confirmed=[], revoked=[])
    )
    moves: list[Step] = field(default_factory=list)
    asked: list[steps.Issue] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)
    exchanges: int = 0

    async def visit(self, line: MemoryLine | None = None) -> steps.End:
        """Serve the unit once; a cut line ends as `UnpluggedError`."""
        wire = line or MemoryLine(self.unit)
        console = Console(wire, ending=self.ending, prompt=self.prompt, quiet_seconds=0)
        async with Ledger.opened(self.path, identity=FLOOR.identity, clock=fixed_clock) as ledger:
            clerk = Clerk(ledger=ledger, enroller=self.enroller, ids=IdRule(prefix="line3-"))

            async def decide(question: steps.Question) -> steps.Decision:
                if isinstance(question, steps.Issue):
                    self.asked.append(question)
                return await clerk.decide(question)

            course = Course(
                self.make(console),
                recall=clerk.generations_of,
                spent=lambda: (console.calls, console.wire_bytes),
            )
            try:
                end = await course.serve(decide=decide, watch=self._watch)
                if end.step is Step.QUARANTINED:
                    await clerk.quarantine(course.seen.hardware_id, end.detail)
            finally:
                self.seen, self.exchanges = course.seen, wire.exchanges
        return end

    def _watch(self, driver: Driver) -> None:
        self.moves.append(driver.step)

    async def cut(self, at: int, *, before: bool) -> None:
        """Serve the unit, and pull its cable at an exchange; its power goes as well."""
        try:
            await self.visit(MemoryLine(self.unit, cut_at=at, cuts_before=before))
        except UnpluggedError:
            self.unit.power_cycle()

    async def ledger_unit(self, hardware_id: str) -> LedgerUnit:
        async with Ledger.opened(self.path, identity=FLOOR.identity, clock=fixed_clock) as ledger:
            found = await ledger.find(hardware_id)
        assert found is not None
        return found

    async def assert_one_is_live(self, hardware_id: str) -> None:
        """Every generation but the last was replaced, and the authority has revoked what it replaced."""
        unit = await self.ledger_unit(hardware_id)
        *before, last = unit.generations
        assert last.state is UnitState.COMMITTED
        assert all(one.state is UnitState.REVOKED for one in before)
        assert last.package is not None
        live = {made.serial for made in self.enroller.made.values()} - set(self.enroller.revoked)
        assert live == {last.package.serial}
