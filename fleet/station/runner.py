"""Runs a factory station: every port at once. A unit that is plugged in is served, nobody presses a key.

It reports what happens and goes on: no unit, no port and no server that fails ends the station.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from device_agent.wire.smp import DEFAULT_GROUP
from fleet.errors import FleetError
from fleet.station.clerk import Clerk
from fleet.station.drivers.driver import Driver
from fleet.station.drivers.smp import SmpDriver
from fleet.station.enroller import Enroller
from fleet.station.events import LaneEvent, Stage
from fleet.station.identity import StationIdentity
from fleet.station.ids import IdRule
from fleet.station.lane import Floor, Lane
from fleet.station.ledger import Ledger
from fleet.station.pace import Pace
from fleet.station.port import Line, require_port
from fleet.station.session import Session

_log = logging.getLogger(__name__)

_SYNC_SECONDS = 30.0


class Station:
    """A station with its identity, its ledger and its way to the server."""

    def __init__(
        self,
        *,
        identity: StationIdentity,
        ledger: Ledger,
        enroller: Enroller,
        ids: IdRule,
        group: int = DEFAULT_GROUP,
        baud: int = 115200,
    ) -> None:
        self._identity = identity
        self._ledger = ledger
        self._clerk = Clerk(ledger=ledger, enroller=enroller, ids=ids)
        self._group = group
        self._baud = baud
        self._turn = asyncio.Lock()
        self._untold: dict[str, LaneEvent] = {}

    def take(self, identity: StationIdentity) -> None:
        """Serve the units that come from now on with another identity of this station."""
        self._identity = identity
        self._ledger.take(identity)

    async def run(self, ports: Sequence[str], *, report: Callable[[LaneEvent], None]) -> None:
        """Serve these ports until cancelled; `report` is called on the event loop and must not block.

        Raises:
            BadInputError: a path is not a serial port.
            UsageError: pyserial is not installed.
        """

        for port in ports:
            require_port(port)

        async def committed(event: LaneEvent) -> None:
            self._untold[event.serial] = event
            await self._sync(report)
            if await self._clerk.is_synced(event.hardware_id):
                # Another lane told the server of this one, between its commit and this event.
                self._tell(event.serial, report)

        floor = Floor(
            clerk=self._clerk, driver=self._driver, report=report, committed=committed, baud=self._baud
        )
        try:
            async with asyncio.TaskGroup() as group:
                for port in dict.fromkeys(ports):
                    group.create_task(Lane(port, floor).run())
                group.create_task(self._sync_for_ever(report))
        except ExceptionGroup as errors:
            # Only what ends the whole station comes here, such as a speed that no port has.
            raise errors.exceptions[0] from errors

    def _driver(self, line: Line) -> Driver:
        session = Session(
            identity=self._identity,
            pace=Pace(baud=self._baud),
            randomness=secrets.token_bytes,
            group=self._group,
        )
        return SmpDriver(session, line)

    async def _sync_for_ever(self, report: Callable[[LaneEvent], None]) -> None:
        """What was committed while the server was away is told when it is back."""
        while True:
            await self._sync(report)
            await asyncio.sleep(_SYNC_SECONDS)

    async def _sync(self, report: Callable[[LaneEvent], None]) -> None:
        async with self._turn:
            try:
                async for serial in self._clerk.sync():
                    self._tell(serial, report)
            except FleetError as error:
                _log.warning("the server was not told of what was committed yet: %s", error)

    def _tell(self, serial: str, report: Callable[[LaneEvent], None]) -> None:
        event = self._untold.pop(serial, None)
        if event:
            report(replace(event, stage=Stage.SYNCED))
