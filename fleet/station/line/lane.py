"""One port of a station: waits for a port, then for a unit, serves it, waits until it left, and again.

Whatever happens on it stays on it: the lane reports and goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from fleet.errors import BadInputError, FleetError, UnreachableError
from fleet.station.drivers.driver import Driver
from fleet.station.line.gate import Place
from fleet.station.line.visit import Desk, Visit
from fleet.station.link import port as ports
from fleet.station.link import steps
from fleet.station.link.causes import Cause, cause_of
from fleet.station.link.steps import Step
from fleet.station.telling.events import LaneEvent, Stage

_REOPEN_SECONDS = 0.5
_HELD_SECONDS = 3.0
_SHORTLY_SECONDS = 0.5
"""A worker who scans the label does not wait for us, nor does a unit whose next number is there."""
_SHORTLY = frozenset({Cause.SCAN_LABEL, Cause.OTHER_NUMBER})
_FAILED_SECONDS = 1.0
_LONGEST_SECONDS = 30.0

STAGES: Mapping[Step, Stage] = {
    Step.HELLO: Stage.WAITING,
    Step.CHECK: Stage.FOUND,
    Step.RECOGNISE: Stage.FOUND,
    Step.FORGET: Stage.FOUND,
    Step.IDENT: Stage.FOUND,
    Step.READ: Stage.KEYED,
    Step.ISSUE: Stage.KEYED,
    Step.WRITE: Stage.WRITING,
    Step.INSTALL: Stage.WRITING,
    Step.PROVE: Stage.INSTALLED,
    Step.RECORD_PROOF: Stage.PROVEN,
    Step.COMMIT: Stage.PROVEN,
    Step.RECORD_COMMIT: Stage.PROVEN,
    Step.BYE: Stage.PROVEN,
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

    desk: Desk
    driver: Callable[[ports.Line], Driver]
    """Returns a driver for the next visit of a unit on a line."""
    report: Callable[[LaneEvent], None]
    ended: Callable[[LaneEvent], Awaitable[None]]
    """Called with the end of each visit, before it is shown."""
    baud: int


class Lane:
    """One port; `run` serves it until it is cancelled. `number` counts lanes from 1."""

    def __init__(self, port: str, floor: Floor, *, number: int) -> None:
        self._port = port
        self._floor = floor
        self._number = number
        self._place = Place(port=port, lane=number)
        self._last: LaneEvent | None = None
        self._visit: Visit | None = None
        self._failures = 0
        self._noted: tuple[object, ...] = ()
        """The failure that was written down last: a unit that stays, and is tried again, fails once."""

    async def run(self) -> None:
        """Serve the port for ever."""
        while True:
            try:
                while not ports.is_there(self._port):
                    self._wait(f"there is no port {self._port}", Cause.NO_PORT)
                    await asyncio.sleep(_REOPEN_SECONDS)
                with ports.opened(self._port, baud=self._floor.baud) as line:
                    await self._attend(line)
            except ports.UnpluggedError:
                self._tell(LaneEvent(port=self._port, lane=self._number, stage=Stage.UNPLUGGED))
            except (UnreachableError, BadInputError) as error:
                self._wait(str(error), Cause.PORT_IN_USE)
            await asyncio.sleep(_REOPEN_SECONDS)

    def _wait(self, detail: str, cause: Cause) -> None:
        self._tell(
            LaneEvent(port=self._port, lane=self._number, stage=Stage.WAITING, detail=detail, cause=cause)
        )

    async def _attend(self, line: ports.Line) -> None:
        self._wait("waiting for a unit", Cause.NONE)
        while True:
            driver = self._floor.driver(line)
            visit = self._visit = Visit(self._floor.desk, driver, place=self._place)
            try:
                end = await driver.serve(decide=visit.decide, watch=self._watch)
                await self._finish(driver, visit, end)
            except FleetError as error:
                if isinstance(error, ports.UnpluggedError):
                    raise
                await self._rest(self._event(driver, Stage.FAILED, str(error), cause_of(error)))
            finally:
                visit.leave()

    async def _finish(self, driver: Driver, visit: Visit, end: steps.End) -> None:
        if end.step is Step.SILENT:
            self._noted = ()
            self._wait(end.detail or "waiting for a unit", end.cause)
            return
        cause = Cause.MADE_BEFORE if end.step is Step.COMMITTED and visit.is_known else end.cause
        event = self._event(driver, STAGES[end.step], end.detail, cause)
        match end.step:
            case Step.COMMITTED:
                self._failures = 0
                await self._end(event)
                await driver.until_it_leaves()
            case Step.QUARANTINED:
                await self._floor.desk.clerk.quarantine(event.hardware_id, end.detail)
                await self._end(event)
                await driver.until_it_leaves()
            case Step.HELD:
                self._tell(event)
                await asyncio.sleep(_SHORTLY_SECONDS if cause in _SHORTLY else _HELD_SECONDS)
            case _:
                failed = replace(event, detail=end.detail or "the unit began anew")
                await self._note(failed)
                await self._rest(failed)

    async def _end(self, event: LaneEvent) -> None:
        self._noted = ()
        await self._floor.ended(event)
        self._tell(event)

    async def _note(self, event: LaneEvent) -> None:
        failure = (event.hardware_id, event.cause, event.detail)
        if failure != self._noted:
            await self._floor.ended(event)
        self._noted = failure

    async def _rest(self, event: LaneEvent) -> None:
        """What failed is tried again, the first time at once, then later and later."""
        self._tell(event)
        seconds = _FAILED_SECONDS * (2**self._failures - 1)
        self._failures += 1
        await asyncio.sleep(min(seconds, _LONGEST_SECONDS))

    def _watch(self, driver: Driver) -> None:
        step = driver.step
        if step not in steps.ENDS and STAGES[step] is not Stage.WAITING:
            self._tell(self._event(driver, STAGES[step], "", Cause.NONE))

    def _tell(self, event: LaneEvent) -> None:
        """Report what is news: a stage, a reason, or bytes that arrived."""
        if self._last is None or _news(event) != _news(self._last):
            self._floor.report(event)
        self._last = event

    def _event(self, driver: Driver, stage: Stage, detail: str, cause: Cause) -> LaneEvent:
        seen = driver.seen
        return LaneEvent(
            port=self._port,
            lane=self._number,
            stage=stage,
            hardware_id=seen.hardware_id,
            device_id=seen.device_id,
            serial=seen.serial,
            label=self._visit.label if self._visit else "",
            detail=detail,
            cause=cause,
            done=seen.done,
            total=seen.total,
            calls=seen.calls,
            wire_bytes=driver.wire_bytes,
            elapsed_ms=round((asyncio.get_running_loop().time() - driver.began) * 1000),
            tofu=seen.tofu,
        )


def _news(event: LaneEvent) -> tuple[object, ...]:
    return (event.stage, event.cause, event.detail, event.done, event.hardware_id)
