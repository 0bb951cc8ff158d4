"""A microcontroller without TLS lives in a real fleet: its renewals are carried by a gateway."""

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.wire import factory_replies as replies
from device_agent.wire.identity import Identity
from firmware_scripts.mcu.emulator import Board, powered
from fleet.errors import ExitCode, RefusedError, UnreachableError
from fleet.model import CertificateState, RevocationReason
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.service import Listeners, Service, running
from fleet.station.gateway import Gateway, Outcome, Visit
from fleet.station.link import port as ports
from fleet.station.link.cable import Cable
from fleet.station.link.conversation import Conversation
from fleet.station.link.pace import Pace
from fleet.station.link.steps import Send
from fleet.station.own.identity import StationIdentity
from fleet.station.server.courier import HttpCourier
from fleet.station.server.way import AdminSocket
from fleet.station.telling.events import Stage
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


class CutConversation(Conversation):
    """Cuts the unit's power after so many answers; the last one is lost on the way."""

    left: int | None = None
    process: "subprocess.Popen[bytes]"

    async def _hear(self, send: Send) -> replies.Reply | replies.Refusal | None:
        reply = await super()._hear(send)
        if reply is None or self.left is None:
            return reply
        if self.left == 0:
            self.process.kill()
            raise UnreachableError("the power was cut")
        self.left -= 1
        return reply


@dataclass
class Field:
    """One enrolled unit, and the gateway that comes by."""

    home: FleetHome
    board: Board
    device_id: str
    serial: str

    async def visit(self, *, in_days: int = 0, noise: float = 0.0, answers: int | None = None) -> Visit:
        """Switch the unit on, and let the gateway visit it so many days from now, as far as it knows.

        With `answers`, its power goes when it has answered so many calls.
        """
        files = self.home.home.station(STATION)
        server = AdminSocket(path=self.home.home.admin_socket, station=STATION)
        with (
            Cable(noise=noise, seed=3) as cable,
            powered(self.board, f"serial,path={cable.device_port}") as process,
        ):
            async with HttpCourier.opened(server) as courier:
                gateway = Gateway(
                    identity=StationIdentity.load(files.certificate, files.key),
                    courier=courier,
                    servers=servers(self.home),
                    clock=lambda: utc_now() + timedelta(days=in_days),
                )
                with ports.opened(cable.station_port, baud=115200) as line:
                    pace = Pace(baud=115200)
                    conversation = CutConversation(line, pace=pace, randomness=secrets.token_bytes)
                    conversation.left = answers
                    conversation.process = process
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


async def test_a_first_certificate_is_a_factory_lines_to_give(
    home: FleetHome, service: Service, firmware: Path, tmp_path: Path
) -> None:
    board = new_board(firmware, tmp_path, hardware_id="mcu-blank", anchors=servers(home))
    field = Field(home=home, board=board, device_id="", serial="")
    assert (await field.visit()).outcome is Outcome.BLANK


async def test_a_renewal_gets_through_line_noise(
    home: FleetHome, service: Service, firmware: Path, tmp_path: Path
) -> None:
    async with in_the_field(home, firmware, tmp_path) as field:
        renewed = await field.visit(in_days=900, noise=1e-4)
        assert renewed.outcome is Outcome.RENEWED


async def test_a_renewal_that_is_cut_off_again_and_again_ends_with_one_certificate(
    home: FleetHome, service: Service, firmware: Path, tmp_path: Path
) -> None:
    async with in_the_field(home, firmware, tmp_path) as field:
        cuts, outcome = 0, None
        while outcome is None:
            try:
                outcome = (await field.visit(in_days=900, answers=cuts)).outcome
            except (RefusedError, UnreachableError):
                cuts += 1
        now = await field.visit()
        assert cuts >= 8
        assert (outcome, now.outcome) == (Outcome.RENEWED, Outcome.CURRENT)
        found = await states(service, field.device_id)
        assert sorted(found.values()) == sorted((CertificateState.SUPERSEDED, CertificateState.ACTIVE))
        assert found[now.serial] is CertificateState.ACTIVE


async def test_a_unit_whose_flash_was_set_back_freezes_until_an_operator_looks(
    home: FleetHome, service: Service, firmware: Path, tmp_path: Path
) -> None:
    async with in_the_field(home, firmware, tmp_path) as field:
        image = field.board.flash.read_bytes()
        renewed = await field.visit(in_days=900)
        field.board.flash.write_bytes(image)
        # It says that it is the first copy, and asks with a new key for an attempt that was made.
        with pytest.raises(UnreachableError, match="frozen"):
            await field.visit()
        found = await states(service, field.device_id)
        assert found[renewed.serial] is CertificateState.ACTIVE
        assert len(found) == 2


async def test_a_revoked_unit_gets_nothing_and_keeps_what_it_has(
    home: FleetHome, service: Service, firmware: Path, tmp_path: Path
) -> None:
    async with in_the_field(home, firmware, tmp_path) as field:
        await revoke(
            service.context,
            ByDevice(identities=(Identity(domain="prod", device_id=field.device_id),)),
            reason=RevocationReason.KEY_COMPROMISE,
            actor="operator:test",
        )
        with pytest.raises(RefusedError, match="revoked"):
            await field.visit()
        with pytest.raises(RefusedError, match="revoked"):
            await field.visit(in_days=900)


async def test_the_command_of_a_gateway_visits_every_port_once(
    home: FleetHome, service: Service, firmware: Path, tmp_path: Path
) -> None:
    async with in_the_field(home, firmware, tmp_path) as field:
        with Cable() as cable, powered(field.board, f"serial,path={cable.device_port}"):
            ports_given = ("--port", cable.station_port, "--port", f"{tmp_path}/nothing")
            command = await asyncio.create_subprocess_exec(
                *(Path(sys.executable).with_name("fleet"), "--home", home.home.root),
                *("station", "carry", "--json", *ports_given),
                stdout=asyncio.subprocess.PIPE,
            )
            printed, _ = await command.communicate()
    visited, missing = json.loads(printed)
    assert command.returncode == ExitCode.FAILED
    assert visited == {
        "port": cable.station_port,
        "device_id": field.device_id,
        "outcome": "current",
        "serial": field.serial,
        "why": "",
    }
    assert missing["outcome"] == "failed"
    assert "cannot open" in missing["why"]
