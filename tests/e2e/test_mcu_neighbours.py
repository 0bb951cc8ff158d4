"""The firmware among others: on one line with Linux agents, behind a corrupting wire, with a stock client."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead, ResetWrite

from device_agent.agent import Agent
from device_agent.config import Settings
from device_agent.wire.factory import LinkState
from firmware_scripts.mcu.emulator import powered
from fleet.model import CertificateState
from fleet.service import Listeners, Service, running
from fleet.station.keeping.ledger import Ledger
from fleet.station.link.cable import Cable
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.runner import Station
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.way import AdminSocket
from fleet.station.telling.events import LaneEvent, Stage
from tests.e2e.test_factory_line import PORTS, STATION, servers, states
from tests.e2e.test_stock_client import TRANSPORTS, Hello
from tests.homes import FleetHome, utc_now
from tests.live import configure, make_live_home
from tests.mcu import firmware, new_board

__all__ = ["firmware"]

pytestmark = [pytest.mark.needs("cargo"), pytest.mark.needs("qemu-system-arm")]

NOISE = 2e-4


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("mcu") / "home", driver="embedded")
    configure(made.home.config, driver="embedded", ports=PORTS)
    return made


@pytest.fixture
async def service(home: FleetHome) -> AsyncIterator[Service]:
    async with running(home.home.root, listeners=Listeners.ADMIN_ONLY) as service:
        yield service


async def until_synced(events: "asyncio.Queue[LaneEvent]", ports: set[str]) -> dict[str, LaneEvent]:
    """Return the event of each port's unit."""
    found: dict[str, LaneEvent] = {}
    async with asyncio.timeout(120):
        while set(found) != ports:
            event = await events.get()
            if event.stage is Stage.SYNCED:
                found[event.port] = event
    return found


async def agent_at(cable: Cable, folder: Path, home: FleetHome) -> None:
    trust = home.home.server_trust.read_text()
    with Agent.opened(Settings(state=folder, hardware_id=folder.name)) as agent:
        await agent.enroll_serial(cable.device_port, trust_pem=trust)


async def test_microcontrollers_and_agents_are_made_on_one_line_through_noise(
    home: FleetHome, service: Service, firmware: Path, tmp_path: Path
) -> None:
    files = home.home.station(STATION)
    identity = StationIdentity.load(files.certificate, files.key)
    server = AdminSocket(path=home.home.admin_socket, station=STATION)
    events: asyncio.Queue[LaneEvent] = asyncio.Queue()
    boards = [new_board(firmware, tmp_path, hardware_id=f"mcu-{one}", anchors=servers(home)) for one in "ab"]
    with Cable() as clean, Cable(noise=NOISE, seed=5) as noisy, Cable() as linux, Cable(noise=NOISE) as bad:
        ports = [cable.station_port for cable in (clean, noisy, linux, bad)]
        async with (
            Ledger.opened(tmp_path / "ledger.db", clock=utc_now, identity=identity) as ledger,
            HttpEnroller.opened(server, servers=servers(home)) as enroller,
        ):
            ids = IdRule(prefix="mixed-")
            station = Station(identity=identity, ledger=ledger, enroller=enroller, ids=ids)
            work = asyncio.ensure_future(station.run(ports, report=events.put_nowait))
            with (
                powered(boards[0], f"serial,path={clean.device_port}"),
                powered(boards[1], f"serial,path={noisy.device_port}"),
            ):
                async with asyncio.TaskGroup() as group:
                    group.create_task(agent_at(linux, tmp_path / "linux-1", home))
                    group.create_task(agent_at(bad, tmp_path / "linux-2", home))
                    made = await until_synced(events, set(ports))
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    assert len({event.device_id for event in made.values()}) == len(ports)
    for event in made.values():
        assert await states(service, event.device_id) == {event.serial: CertificateState.ACTIVE}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stock_client_connects_and_speaks_with_the_firmware(
    firmware: Path, tmp_path: Path, transport: str
) -> None:
    board = new_board(firmware, tmp_path, hardware_id="stock")
    with Cable() as cable, powered(board, f"serial,path={cable.device_port}"):
        client = SMPClient(TRANSPORTS[transport](), cable.station_port)
        await client.connect()
        try:
            echoed = await client.request(EchoWrite(d="hello"))
            buffer = await client.request(MCUMgrParametersRead())
            hello = await client.request(Hello(s=b"session!", q=1, n=bytes(16)))
            reset = await client.request(ResetWrite())
            again = await client.request(EchoWrite(d="here again"))
        finally:
            await client.disconnect()
    assert all(success(answer) for answer in (echoed, buffer, hello, reset, again))
    assert (echoed.r, again.r) == ("hello", "here again")
    assert (buffer.buf_size, buffer.buf_count) == (2048, 1)
    assert (hello.hw, hello.st, hello.fp) == ("stock", LinkState.FRESH, b"")


async def test_the_firmware_passes_the_conformance_kit(firmware: Path, tmp_path: Path) -> None:
    board = new_board(firmware, tmp_path, hardware_id="judged", anchors=())
    with Cable() as cable, powered(board, f"serial,path={cable.device_port}"):
        kit = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).with_name("fleet"), "conform", "--port", cable.station_port),
            *("--out", tmp_path / "kit", "--json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        printed, _ = await kit.communicate()
    assert kit.returncode == 0, printed.decode()
