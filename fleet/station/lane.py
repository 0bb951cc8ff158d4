"""One port of a station: waits for a port, then for a unit, serves it, waits until it left, and again.

Whatever happens on it stays on it: the lane reports and goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from fleet.errors import BadInputError, FleetError, UnreachableError
from fleet.station import port as ports
from fleet.station import steps
from fleet.station.clerk import Clerk
from fleet.station.drivers.driver import Driver
from fleet.station.events import LaneEvent, Stage
from fleet.station.steps import Step

_REOPEN_SECONDS = 0.5
_HELD_SECONDS = 3.0
_FAILED_SECONDS = 1.0
_LONGEST_SECONDS = 30.0

STAGES: Mapping[Step, Stage] = {
    Step.HELLO: Stage.WAITING,
    Step.CHECK: Stage.FOUND,
    Step.RECOGNISE: Stage.FOUND,
    Step.IDENT: Stage.FOUND,
    Step.READ: Stage.KEYED,
    Step.ISSUE: Stage.KEYED,
    Step.WRITE: Stage.WRITING,
    Step.INSTALL: Stage.WRITING,
    Step.PROVE: Stage.INSTALLED,
    Step.RECORD_PROOF: Stage.PROVEN,
    Step.COMMIT: Stage.PROVEN,
    Step.RECORD_COMMIT: Stage.PROVEN,
    Step.BYE: Stage.COMMITTED,
    Step.COMMITTED: Stage.COMMITTED,
    Step.QUARANTINED: Stage.QUARANTINED,
    Step.HELD: Stage.HELD,
    Step.LOST: Stage.FAILED,
    Step.FAILED: Stage.FAILED,
    Step.SILENT: Stage.WAITING,
}
"""What a person sees of each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What the lanes of a station share."""

    clerk: Clerk
    driver: Callable[[ports.Line], Driver]
    """Returns a driver for the next visit of a unit on a line."""
    report: Callable[[LaneEvent], None]
    committed: Callable[[LaneEvent], Awaitable[None]]
    """Called with the event of a unit that was committed: the server is to be told."""
    baud: int
    in_hand: set[str] = field(default_factory=set)
    """Hardware ids that are on some port now: two of the same at once are one too many."""


class Lane:
    """One port; `run` serves it until it is cancelled."""

    def __init__(self, port: str, floor: Floor) -> None:
        self._port = port
        self._floor = floor
        self._last: LaneEvent | None = None
        self._failures = 0

    async def run(self) -> None:
        """Serve the port for ever."""
        while True:
            try:
                while not ports.is_there(self._port):
                    self._wait("waiting for the port")
                    await asyncio.sleep(_REOPEN_SECONDS)
                with ports.opened(self._port, baud=self._floor.baud) as line:
                    await self._attend(line)
            except ports.UnpluggedError:
                self._tell(LaneEvent(port=self._port, stage=Stage.UNPLUGGED))
            except (UnreachableError, BadInputError) as error:
                self._wait(str(error))
            await asyncio.sleep(_REOPEN_SECONDS)

    def _wait(self, detail: str) -> None:
        self._tell(LaneEvent(port=self._port, stage=Stage.WAITING, detail=detail))

    async def _attend(self, line: ports.Line) -> None:
        self._wait("waiting for a unit")
        while True:
            driver = self._floor.driver(line)
            visit = Visit(self._floor, driver)
            try:
                end = await driver.serve(decide=visit.decide, watch=self._watch)
                await self._finish(driver, end)
            except FleetError as error:
                if isinstance(error, ports.UnpluggedError):
                    raise
                await self._rest(driver, str(error))
            finally:
                visit.leave()

    async def _finish(self, driver: Driver, end: steps.End) -> None:
        if end.step is Step.SILENT:
            self._wait(end.detail or "waiting for a unit")
            return
        event = self._event(driver, STAGES[end.step], end.detail)
        match end.step:
            case Step.COMMITTED:
                self._failures = 0
                self._tell(event)
                await self._floor.committed(event)
                await driver.until_it_leaves()
            case Step.QUARANTINED:
                await self._floor.clerk.quarantine(driver.seen.hardware_id, end.detail)
                self._tell(event)
                await driver.until_it_leaves()
            case Step.HELD:
                self._tell(event)
                await asyncio.sleep(_HELD_SECONDS)
            case _:
                await self._rest(driver, end.detail or "the unit began anew")

    async def _rest(self, driver: Driver, detail: str) -> None:
        """What failed is tried again, the first time at once, then later and later."""
        self._tell(self._event(driver, Stage.FAILED, detail))
        seconds = _FAILED_SECONDS * (2**self._failures - 1)
        self._failures += 1
        await asyncio.sleep(min(seconds, _LONGEST_SECONDS))

    def _watch(self, driver: Driver) -> None:
        step = driver.step
        if step not in steps.ENDS and STAGES[step] is not Stage.WAITING:
            self._tell(self._event(driver, STAGES[step], ""))

    def _tell(self, event: LaneEvent) -> None:
        """Report what is news: a stage, a reason, or bytes that arrived."""
        last, self._last = self._last, event
        news = (event.stage, event.detail, event.done, event.hardware_id)
        if last is None or news != (last.stage, last.detail, last.done, last.hardware_id):
            self._floor.report(event)

    def _event(self, driver: Driver, stage: Stage, detail: str) -> LaneEvent:
        seen = driver.seen
        return LaneEvent(
            port=self._port,
            stage=stage,
            hardware_id=seen.hardware_id,
            device_id=seen.device_id,
            serial=seen.serial,
            detail=detail,
            done=seen.done,
            total=seen.total,
            calls=seen.calls,
            wire_bytes=driver.wire_bytes,
            elapsed_ms=round((asyncio.get_running_loop().time() - driver.began) * 1000),
            tofu=seen.tofu,
        )


class Visit:
    """One unit at one port: it is in hand from HELLO until it left."""

    def __init__(self, floor: Floor, driver: Driver) -> None:
        self._floor = floor
        self._driver = driver
        self._hardware_id: str | None = None

    async def decide(self, question: steps.Question) -> steps.Decision:
        """Return the clerk's answer, unless the same unit is at another port."""
        if isinstance(question, steps.Recognise) and not self._take(question.hello.hardware_id):
            return steps.Refuse(reason="a unit with the same hardware id is at another port")
        return await self._floor.clerk.decide(question)

    def _take(self, hardware_id: str) -> bool:
        if hardware_id in self._floor.in_hand:
            return False
        self._floor.in_hand.add(hardware_id)
        self._hardware_id = hardware_id
        return True

    def leave(self) -> None:
        """The unit left, or its session is over."""
        with suppress(KeyError):
            self._floor.in_hand.remove(self._hardware_id or "")
