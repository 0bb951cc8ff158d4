"""Runs a factory station: every port at once. A unit that is plugged in is served, nobody presses a key.

It reports what happens and goes on: no unit, no port and no server that fails ends the station.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from device_agent.wire.smp import DEFAULT_GROUP
from fleet.errors import FleetError
from fleet.station.drivers.choice import Drivers
from fleet.station.drivers.driver import Driver
from fleet.station.drivers.smp import SmpDriver
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.workshop import Workshop
from fleet.station.line.aftermath import Aftermath
from fleet.station.line.gate import Gate
from fleet.station.line.lane import Floor, Lane
from fleet.station.line.visit import Desk
from fleet.station.link.pace import Pace
from fleet.station.link.port import Line, require_port
from fleet.station.link.session import Session
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.server.enroller import Enroller
from fleet.station.server.recall import Recaller
from fleet.station.telling.events import LaneEvent, Stage
from fleet.station.telling.outlets import Outlets

_log = logging.getLogger(__name__)

_SYNC_SECONDS = 10.0


class Station:
    """A station with its identity, its ledger and its way to the server."""

    def __init__(
        self,
        *,
        identity: StationIdentity,
        ledger: Ledger,
        enroller: Enroller,
        ids: IdRule,
        batch: str = "",
        recaller: Recaller | None = None,
        group: int = DEFAULT_GROUP,
        baud: int = 115200,
        gate: Gate | None = None,
        outlets: Outlets | None = None,
        drivers: Drivers | None = None,
        workshop: Workshop | None = None,
    ) -> None:
        self.clerk = Clerk(
            ledger=ledger,
            enroller=enroller,
            ids=ids,
            batch=batch,
            recaller=recaller,
            workshop=workshop,
        )
        self._identity = identity
        self._ledger = ledger
        self._group = group
        self._baud = baud
        self._gate = gate or Gate()
        self._outlets = outlets or Outlets()
        self._drivers = drivers
        self._aftermath = Aftermath(
            station=identity.name,
            clerk=self.clerk,
            clock=lambda: datetime.now(UTC),
            book=self._outlets.book,
            kinds=self._outlets.kinds,
        )
        self._numbers: dict[str, int] = {}
        self._has_news = asyncio.Event()
        self._untold: dict[str, LaneEvent] = {}

    def take(self, identity: StationIdentity) -> None:
        """Serve the units that come from now on with another identity of this station."""
        self._identity = identity
        self._ledger.take(identity)

    def number_of(self, port: str) -> int:
        """Return the number of a port's lane, from 1; a port keeps it."""
        return self._numbers.setdefault(port, len(self._numbers) + 1)

    async def run(
        self,
        ports: Sequence[str],
        *,
        report: Callable[[LaneEvent], None],
        plugged: AsyncIterator[frozenset[str]] | None = None,
    ) -> None:
        """Serve these ports, and those that are plugged in meanwhile, until cancelled.

        `report` is called on the event loop and must not block.

        Raises:
            BadInputError: a path is not a serial port.
            UsageError: pyserial is not installed.
        """
        for port in ports:
            require_port(port)
        try:
            async with asyncio.TaskGroup() as group:
                floor = self._floor(group, report)
                for port in dict.fromkeys(ports):
                    group.create_task(Lane(port, floor, number=self.number_of(port)).run())
                if plugged is not None:
                    group.create_task(self._follow(plugged, floor, group))
                group.create_task(self._sync_for_ever(report))
                self._outlets.open(group)
        except ExceptionGroup as errors:
            # Only what ends the whole station comes here, such as a speed that no port has.
            raise errors.exceptions[0] from errors

    def _floor(self, group: asyncio.TaskGroup, report: Callable[[LaneEvent], None]) -> Floor:
        async def ended(event: LaneEvent) -> None:
            await self._aftermath.note(event)
            if event.stage is Stage.COMMITTED:
                # The lane goes on: a server that is slow is no reason for the next unit to wait.
                group.create_task(self._confirm(event, report))
            if event.stage is Stage.QUARANTINED:
                # An operator can release it as soon as the server knows of it.
                self._has_news.set()

        return Floor(
            desk=Desk(clerk=self.clerk, gate=self._gate),
            driver=self._driver,
            report=report,
            ended=ended,
            baud=self._baud,
        )

    async def _follow(
        self, plugged: AsyncIterator[frozenset[str]], floor: Floor, group: asyncio.TaskGroup
    ) -> None:
        """Give every adapter that is plugged in a lane, and take it away with the adapter."""
        lanes: dict[str, asyncio.Task[None]] = {}
        async for ports in plugged:
            for port in sorted(ports - lanes.keys()):
                lanes[port] = group.create_task(Lane(port, floor, number=self.number_of(port)).run())
            for port in lanes.keys() - ports:
                # Whatever it was at is picked up from the ledger when the unit is back.
                lanes.pop(port).cancel()
                floor.report(LaneEvent(port=port, lane=self.number_of(port), stage=Stage.UNPLUGGED))

    def _driver(self, line: Line) -> Driver:
        if self._drivers is not None:
            return self._drivers(line, self.clerk.generations_of)
        session = Session(
            identity=self._identity,
            pace=Pace(baud=self._baud),
            randomness=secrets.token_bytes,
            group=self._group,
        )
        return SmpDriver(session, line)

    async def _confirm(self, event: LaneEvent, report: Callable[[LaneEvent], None]) -> None:
        self._untold[event.serial] = event
        try:
            await self.clerk.confirm(event.hardware_id)
            self._tell(event.serial, report)
        except FleetError as error:
            _log.warning("the server was not told of %s yet: %s", event.device_id, error)

    async def _sync_for_ever(self, report: Callable[[LaneEvent], None]) -> None:
        """What was done while the server was away is told when it is back."""
        parts = (
            self._aftermath.pay,
            self._forward,
            self.clerk.upload,
            partial(self._sync, report),
            self._release,
        )
        await self._catch_up()
        while True:
            for part in parts:
                try:
                    await part()
                except FleetError as error:
                    _log.warning("the server does not know everything yet: %s", error)
            self._has_news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_SYNC_SECONDS):
                    await self._has_news.wait()

    async def _catch_up(self) -> None:
        try:
            await self._aftermath.catch_up(self._ledger)
        except FleetError as error:
            _log.warning("not all results are in the line's book yet: %s", error)

    async def _forward(self) -> None:
        async for hardware_id in self.clerk.forward():
            _log.info("the certificate of unit %s is here", hardware_id)

    async def _release(self) -> None:
        for one in await self.clerk.carry_out():
            _log.info("%s released unit %s: %s", one.actor, one.hardware, one.fate)

    async def _sync(self, report: Callable[[LaneEvent], None]) -> None:
        async for serial in self.clerk.sync():
            self._tell(serial, report)

    def _tell(self, serial: str, report: Callable[[LaneEvent], None]) -> None:
        event = self._untold.pop(serial, None)
        if event:
            report(replace(event, stage=Stage.SYNCED))
