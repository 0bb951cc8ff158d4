"""A factory line with nothing made up: a fleet's own authority, its station, and real agents at ptys."""

import asyncio
import os
import secrets
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.agent import Agent
from device_agent.config import Settings
from device_agent.core.station_link import Committed
from device_agent.wire.identity import Identity
from fleet.errors import RefusedError, UnreachableError
from fleet.model import CertificateState
from fleet.service import Listeners, Service, running
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.package import IssueOrder
from fleet.station.link.cable import Cable
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.runner import Station
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.way import AdminSocket, HttpsServer
from fleet.station.telling.events import LaneEvent, Stage
from fleet.store.devices import load_device
from tests.factory_floor import MemoryUnit
from tests.homes import FleetHome, utc_now
from tests.live import configure, live, make_live_home
from tests.mqtt import client_context

STATION = "local"


# What devices are told; without a server nothing listens there.
PORTS = {"mqtt_port": 8883, "mqtt_bootstrap_port": 8884, "https_port": 8443, "http_port": 8080}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    """A home whose server listens on its socket only."""
    made = make_live_home(tmp_path_factory.mktemp("line") / "home", driver="embedded")
    configure(made.home.config, driver="embedded", ports=PORTS)
    return made


@pytest.fixture(scope="module")
def serving_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    """A home whose server listens on free ports."""
    return make_live_home(tmp_path_factory.mktemp("serving") / "home", driver="embedded")


@pytest.fixture
async def service(home: FleetHome) -> AsyncIterator[Service]:
    async with running(home.home.root, listeners=Listeners.ADMIN_ONLY) as service:
        yield service


def servers(home: FleetHome) -> tuple[bytes, ...]:
    pem = home.home.server_trust.read_bytes()
    return tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))


@dataclass
class Shop:
    """A station at one cable, at work for a home."""

    home: FleetHome
    folder: Path
    cable: Cable
    events: "asyncio.Queue[LaneEvent]"

    async def until(self, stage: Stage) -> LaneEvent:
        async with asyncio.timeout(60):
            while True:
                event = await self.events.get()
                if event.stage is stage:
                    return event

    async def enroll(self, state: str, *, hardware_id: str, device_id: str = "") -> Committed:
        """Plug a real agent in, as `device-agent enroll --serial` does."""
        settings = Settings(state=self.folder / state, hardware_id=hardware_id)
        trust = self.home.home.server_trust.read_text()
        async with asyncio.timeout(60):
            with Agent.opened(settings) as agent:
                port = self.cable.device_port
                return await agent.enroll_serial(port, device_id=device_id, trust_pem=trust)

    def serial(self, state: str) -> str:
        """Return the serial that an agent holds."""
        with Agent.opened(Settings(state=self.folder / state)) as agent:
            status = agent.status()
            assert status.enrolled
            return status.serial


@asynccontextmanager
async def shop(home: FleetHome, folder: Path) -> AsyncIterator[Shop]:
    files = home.home.station(STATION)
    identity = StationIdentity.load(files.certificate, files.key)
    events: asyncio.Queue[LaneEvent] = asyncio.Queue()
    # The server outlives the ledgers of these tests, so each has a prefix of its own.
    ids = IdRule(prefix=f"{secrets.token_hex(4)}-")
    server = AdminSocket(path=home.home.admin_socket, station=STATION)
    with Cable() as cable:
        async with (
            Ledger.opened(folder / "ledger.db", clock=utc_now, identity=identity) as ledger,
            HttpEnroller.opened(server, servers=servers(home)) as enroller,
        ):
            station = Station(identity=identity, ledger=ledger, enroller=enroller, ids=ids)
            work = asyncio.ensure_future(station.run([cable.station_port], report=events.put_nowait))
            try:
                yield Shop(home=home, folder=folder, cable=cable, events=events)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)


async def states(service: Service, device_id: str) -> dict[str, CertificateState]:
    identity = Identity(domain="prod", device_id=device_id)
    device = await service.context.store.read(load_device, identity)
    assert device is not None
    return {one.serial: one.state for one in device.certificates}


async def test_a_real_agent_is_made_at_a_real_line(home: FleetHome, service: Service, tmp_path: Path) -> None:
    async with shop(home, tmp_path) as line:
        committed = await line.enroll("state", hardware_id="hw-1", device_id="d1")
        event = await line.until(Stage.SYNCED)
    assert (committed.station, committed.tofu) == (STATION, False)
    assert (event.device_id, event.hardware_id) == ("d1", "hw-1")
    assert line.serial("state") == event.serial
    assert await states(service, "d1") == {event.serial: CertificateState.ACTIVE}


async def test_a_real_device_costs_what_the_line_may_cost(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    async with shop(home, tmp_path) as line:
        await line.enroll("state", hardware_id="hw-c")
        event = await line.until(Stage.SYNCED)
    assert event.calls <= 15
    assert event.wire_bytes <= 5000


async def test_an_agent_that_is_run_again_keeps_its_certificate(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    async with shop(home, tmp_path) as line:
        first = await line.enroll("state", hardware_id="hw-2")
        second = await line.enroll("state", hardware_id="hw-2")
        event = await line.until(Stage.SYNCED)
    assert first.fingerprint == second.fingerprint
    assert len(await states(service, event.device_id)) == 1


async def test_a_wiped_device_gets_a_new_certificate_and_the_old_one_is_revoked(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    async with shop(home, tmp_path) as line:
        await line.enroll("before", hardware_id="hw-3")
        first = await line.until(Stage.SYNCED)
        await line.enroll("after", hardware_id="hw-3")
        second = await line.until(Stage.SYNCED)
    assert second.device_id == first.device_id
    assert await states(service, first.device_id) == {
        first.serial: CertificateState.REVOKED,
        second.serial: CertificateState.ACTIVE,
    }


async def test_without_a_server_the_unit_is_held_and_made_when_it_is_back(
    home: FleetHome, tmp_path: Path
) -> None:
    async with shop(home, tmp_path) as line:
        device = asyncio.ensure_future(line.enroll("state", hardware_id="hw-4"))
        held = await line.until(Stage.HELD)
        async with running(home.home.root, listeners=Listeners.ADMIN_ONLY):
            await device
            await line.until(Stage.SYNCED)
    assert "does not answer" in held.detail


@pytest.mark.needs("faketime")
async def test_a_device_whose_clock_stands_in_1970_is_made_at_a_line(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    async with shop(home, tmp_path) as line, asyncio.timeout(60):
        device = await asyncio.create_subprocess_exec(
            *("faketime", "-f", "@1970-01-01 00:00:09", sys.executable, "-m", "device_agent.cli"),
            *("--state", str(tmp_path / "state"), "enroll", "--serial", line.cable.device_port),
            *("--trust", str(home.home.server_trust), "--device", "d1970", "--hardware-id", "hw-1970"),
            env={**os.environ, "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        )
        event = await line.until(Stage.SYNCED)
        assert await device.wait() == 0
    assert event.device_id == "d1970"


async def test_a_device_that_trusts_another_fleet_does_not_obey(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "other.pem"
    elsewhere.write_bytes(home.home.trust_root("prod").read_bytes())
    async with shop(home, tmp_path) as line:
        settings = Settings(state=tmp_path / "state", hardware_id="hw-5")
        with Agent.opened(settings) as agent:
            device = asyncio.ensure_future(
                agent.enroll_serial(line.cable.device_port, trust_pem=elsewhere.read_text())
            )
            event = await line.until(Stage.FAILED)
            device.cancel()
            await asyncio.gather(device, return_exceptions=True)
            assert not agent.status().enrolled
    assert "unauthorised" in event.detail


def order(name: str) -> IssueOrder:
    unit = MemoryUnit(hardware_id=f"hw-{name}")
    return IssueOrder(device_id=name, hardware_id=unit.hardware_id, csr=unit.request(name))


@asynccontextmanager
async def over_https(home: FleetHome, port: int, *, station: str | None) -> AsyncIterator[HttpEnroller]:
    """Ask as a station elsewhere does: over HTTPS, with its certificate or with none."""
    trust = home.home.server_trust
    if station is None:
        tls = ssl.create_default_context(cafile=str(trust))
    else:
        files = home.home.station(station)
        tls = client_context(trust=trust, certificate=files.certificate, key=files.key)
    server = HttpsServer(host="localhost", port=port, tls=tls)
    async with HttpEnroller.opened(server, servers=servers(home)) as enroller:
        yield enroller


async def test_a_station_elsewhere_asks_over_https_with_its_certificate(
    serving_home: FleetHome, tmp_path: Path
) -> None:
    asked = order("far-1")
    async with live(serving_home, tmp_path) as fleet:
        port = fleet.context.endpoints.https_port
        async with over_https(serving_home, port, station=STATION) as enroller:
            first = await enroller.issue(asked)
            assert await enroller.issue(asked) == first
            await enroller.confirm(first.serial)
            await enroller.confirm(first.serial)
            assert await states(fleet.service, "far-1") == {first.serial: CertificateState.ACTIVE}


async def test_without_a_stations_certificate_nothing_is_issued(
    serving_home: FleetHome, tmp_path: Path
) -> None:
    async with live(serving_home, tmp_path) as fleet:
        port = fleet.context.endpoints.https_port
        async with over_https(serving_home, port, station=None) as enroller:
            with pytest.raises(RefusedError):
                await enroller.issue(order("far-2"))


async def test_another_key_for_a_known_id_needs_to_say_what_it_replaces(
    home: FleetHome, service: Service
) -> None:
    server = AdminSocket(path=home.home.admin_socket, station=STATION)
    async with HttpEnroller.opened(server, servers=servers(home)) as enroller:
        await enroller.issue(order("twice"))
        with pytest.raises(RefusedError):
            await enroller.issue(order("twice"))


async def test_a_server_that_is_not_there_is_unreachable(home: FleetHome, tmp_path: Path) -> None:
    server = AdminSocket(path=tmp_path / "none.sock", station=STATION)
    async with HttpEnroller.opened(server, servers=servers(home)) as enroller:
        with pytest.raises(UnreachableError, match="does not answer"):
            await enroller.issue(order("nobody"))
