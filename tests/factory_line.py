"""One unit on one port of a station, in memory, with everything that may go wrong on purpose."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agent.wire.framing import Framing
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitState
from fleet.station.link import steps
from fleet.station.link.steps import Step
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from tests.factory_floor import (
    Floor,
    MemoryEnroller,
    MemoryUnit,
    Wire,
    counted_randomness,
    fixed_clock,
    run_session,
    session_of,
)

FLOOR = Floor()
CLEAN_CALLS = 10
"""HELLO, IDENT, READ, three WRITE, INSTALL, PROVE, COMMIT, STATUS."""


class KilledError(Exception):
    """The station's process ended here."""


@dataclass
class Line:
    """One unit on one port of a station, with everything that may go wrong on purpose."""

    path: Path
    unit: MemoryUnit = field(default_factory=lambda: MemoryUnit(anchors=(FLOOR.anchor,)))
    enroller: MemoryEnroller = field(
        default_factory=lambda: replace(
            FLOOR.enroller, made={}, owners={}, confirmed=[], revoked=[], journal=[]
        )
    )
    randomness: Callable[[int], bytes] = field(default_factory=counted_randomness)
    framings: tuple[Framing, ...] = (Framing.COBS, Framing.LINES)
    sessions: int = 0

    def wire(self, **options: float) -> Wire:
        return Wire(self.unit, **options)

    async def serve(
        self, wire: Wire, *, tries: int = 8, spoil: Callable[[steps.Question], None] | None = None
    ) -> steps.End:
        """Run sessions as a lane does, each with the ledger opened anew, until the unit is finished."""
        end = steps.End(step=Step.SILENT)
        for _ in range(tries):
            self.sessions += 1
            async with Ledger.opened(self.path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
                clerk = Clerk(ledger=ledger, enroller=self.enroller, ids=IdRule(prefix="line3-"))

                async def decide(question: steps.Question, clerk: Clerk = clerk) -> steps.Decision:
                    decision = await clerk.decide(question)
                    if spoil:
                        spoil(question)
                    return decision

                session = session_of(FLOOR, self.randomness, framings=self.framings)
                try:
                    end = await run_session(session, wire, decide)
                except KilledError:
                    continue
                if end.step is Step.QUARANTINED:
                    await clerk.quarantine(self.unit.hardware_id, end.detail)
            if end.step in (Step.COMMITTED, Step.QUARANTINED):
                break
        return end

    async def assert_committed_once(self) -> None:
        async with Ledger.opened(self.path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
            unit = await ledger.find(self.unit.hardware_id)
        assert unit is not None
        (generation,) = unit.generations
        assert generation.state is UnitState.COMMITTED
        assert generation.package is not None
        assert self.unit.active is not None
        assert self.unit.active.fingerprint == generation.package.fingerprint
        assert self.unit.commits == 1
        assert len(self.enroller.made) == 1
