"""An RMA bench: a real agent comes back over a pty by an operator's code, to a station that never saw it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.agent import Agent
from device_agent.config import Settings
from device_agent.status import Status
from device_agent.wire.identity import Identity
from fleet.model import CertificateState
from fleet.ra.people.claims import CodeOrder, create_codes
from fleet.service import Listeners, Service, running
from fleet.station.keeping.ledger import Ledger
from fleet.station.link.cable import Cable
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.runner import Station
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.way import AdminSocket
from fleet.station.telling.events import LaneEvent, Stage
from fleet.store.devices import load_device
from tests.homes import FleetHome, utc_now
from tests.live import configure, make_live_home

PORTS = {"mqtt_port": 8883, "mqtt_bootstrap_port": 8884, "https_port": 8443, "http_port": 8080}
D1 = Identity(domain="prod", device_id="d1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("bench") / "home", driver="embedded")
    configure(made.home.config, driver="embedded", ports=PORTS)
    return made


@pytest.fixture
async def service(home: FleetHome) -> AsyncIterator[Service]:
    async with running(home.home.root, listeners=Listeners.ADMIN_ONLY) as service:
        yield service


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A station at one cable, with a ledger of its own."""

    home: FleetHome
    cable: Cable
    clerk: Clerk
    events: "asyncio.Queue[LaneEvent]"

    async def plug_in(self, state: Path) -> Status:
        """Plug a real agent in, as `device-agent recover --serial` does, until the server knows."""
        trust = self.home.home.server_trust.read_text()
        with Agent.opened(Settings(state=state, hardware_id="hw-1")) as agent:
            await agent.enroll_serial(self.cable.device_port, device_id="d1", trust_pem=trust)
            status = agent.status()
        while (await self.events.get()).stage is not Stage.SYNCED:
            pass
        return status


@asynccontextmanager
async def bench(home: FleetHome, folder: Path) -> AsyncIterator[Bench]:
    folder.mkdir()
    files = home.home.station("local")
    identity = StationIdentity.load(files.certificate, files.key)
    roots = x509.load_pem_x509_certificates(home.home.server_trust.read_bytes())
    server = AdminSocket(path=home.home.admin_socket, station="local")
    events: asyncio.Queue[LaneEvent] = asyncio.Queue()
    with Cable() as cable:
        async with (
            asyncio.timeout(60),
            Ledger.opened(folder / "ledger.db", clock=utc_now, identity=identity) as ledger,
            HttpEnroller.opened(
                server, servers=tuple(one.public_bytes(Encoding.DER) for one in roots)
            ) as enroller,
        ):
            station = Station(identity=identity, ledger=ledger, enroller=enroller, ids=IdRule(prefix="x-"))
            work = asyncio.ensure_future(station.run([cable.station_port], report=events.put_nowait))
            try:
                yield Bench(home=home, cable=cable, clerk=station.clerk, events=events)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)


async def test_a_unit_is_made_anew_at_a_bench_by_a_code_that_was_scanned_there(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    async with bench(home, tmp_path / "factory") as factory:
        before = await factory.plug_in(tmp_path / "unit")
    order = CodeOrder(identities=(D1,), actor="operator:test", lifetime=timedelta(days=1))
    (made,) = await create_codes(service.context, order)
    async with bench(home, tmp_path / "repairs") as repairs:
        repairs.clerk.take_code(made.code, device_id="d1")
        after = await repairs.plug_in(tmp_path / "unit")
    device = await service.context.store.read(load_device, D1)
    assert device is not None
    assert (after.name, after.key != before.key) == ("prod:d1", True)
    assert {one.serial: one.state for one in device.certificates} == {
        before.serial: CertificateState.SUPERSEDED,
        after.serial: CertificateState.ACTIVE,
    }
