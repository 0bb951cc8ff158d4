"""A microcontroller without TLS lives in a real fleet: its renewals are carried by a gateway."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from firmware_scripts.mcu.emulator import Board, powered
from fleet.model import CertificateState
from fleet.service import Listeners, Service, running
from fleet.station import port as ports
from fleet.station.authority import AdminSocket
from fleet.station.cable import Cable
from fleet.station.conversation import Conversation
from fleet.station.courier import HttpCourier
from fleet.station.events import Stage
from fleet.station.gateway import Gateway, Outcome, Visit
from fleet.station.identity import StationIdentity
from fleet.station.pace import Pace
from tests.e2e.test_factory_line import PORTS, STATION, servers, shop, states
from tests.homes import FleetHome, utc_now
from tests.live import configure, make_live_home
from tests.mcu import firmware, new_board

__all__ = ["firmware"]

pytestmark = [pytest.mark.needs("cargo"), pytest.mark.needs("qemu-system-arm")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("mcu") / "home", driver="embedded")
    configure(made.home.config, driver="embedded", ports=PORTS)
    return made


@pytest.fixture
async def service(home: FleetHome) -> AsyncIterator[Service]:
    async with running(home.home.root, listeners=Listeners.ADMIN_ONLY) as service:
        yield service


@dataclass
class Field:
    """One enrolled unit, and the gateway that comes by."""

    home: FleetHome
    board: Board
    device_id: str
    serial: str

    async def visit(self, *, in_days: int = 0, noise: float = 0.0) -> Visit:
        """Switch the unit on, and let the gateway visit it so many days from now, as far as it knows."""
        files = self.home.home.station(STATION)
        server = AdminSocket(path=self.home.home.admin_socket, station=STATION)
        with Cable(noise=noise, seed=3) as cable, powered(self.board, f"serial,path={cable.device_port}"):
            async with HttpCourier.opened(server) as courier:
                gateway = Gateway(
                    identity=StationIdentity.load(files.certificate, files.key),
                    courier=courier,
                    servers=servers(self.home),
                    clock=lambda: utc_now() + timedelta(days=in_days),
                )
                with ports.opened(cable.station_port, baud=115200) as line:
                    pace = Pace(baud=115200)
                    conversation = Conversation(line, pace=pace, randomness=secrets.token_bytes)
                    return await gateway.visit(conversation)


@asynccontextmanager
async def in_the_field(home: FleetHome, elf: Path, folder: Path) -> AsyncIterator[Field]:
    """Make a unit at the line, and bring it into the field."""
    board = new_board(elf, folder, hardware_id=f"mcu-{secrets.token_hex(4)}", anchors=servers(home))
    async with shop(home, folder) as line:
        with powered(board, f"serial,path={line.cable.device_port}"):
            event = await line.until(Stage.SYNCED)
    yield Field(home=home, board=board, device_id=event.device_id, serial=event.serial)


async def test_a_unit_renews_through_a_gateway_until_confirmed(
    home: FleetHome, service: Service, firmware: Path, tmp_path: Path
) -> None:
    async with in_the_field(home, firmware, tmp_path) as field:
        now = await field.visit()
        assert (now.outcome, now.serial) == (Outcome.CURRENT, field.serial)
        renewed = await field.visit(in_days=900)
        assert renewed.outcome is Outcome.RENEWED
        assert renewed.serial != field.serial
        assert await states(service, field.device_id) == {
            field.serial: CertificateState.SUPERSEDED,
            renewed.serial: CertificateState.ACTIVE,
        }
        again = await field.visit()
        assert (again.outcome, again.serial) == (Outcome.CURRENT, renewed.serial)
