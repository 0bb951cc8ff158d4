"""Devices of other people on a real line: pty, lane, ledger, authority, and what is on record afterwards."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity
from fleet.model import Assurance, CertificateState
from fleet.service import Listeners, Service, running
from fleet.station.drivers.choice import Choice, HostKeys, Name, drivers_of
from fleet.station.keeping.ledger import Ledger
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.runner import Station
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.way import AdminSocket
from fleet.station.telling.events import LaneEvent, Stage
from fleet.store.devices import load_device, load_record
from fleet.store.proofs import proofs_of
from tests.homes import FleetHome, utc_now
from tests.live import configure, make_live_home
from tests.vendors.line import Unit, at_pty
from tests.vendors.modem import Modem
from tests.vendors.shell import NcsShell, Shell

STATION = "local"
PORTS = {"mqtt_port": 8883, "mqtt_bootstrap_port": 8884, "https_port": 8443, "http_port": 8080}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("drivers") / "home", driver="embedded")
    configure(made.home.config, driver="embedded", ports=PORTS)
    return made


@pytest.fixture
async def service(home: FleetHome) -> AsyncIterator[Service]:
    async with running(home.home.root, listeners=Listeners.ADMIN_ONLY) as service:
        yield service


@asynccontextmanager
async def line(
    home: FleetHome, folder: Path, unit: Unit, choice: Choice
) -> AsyncIterator["asyncio.Queue[LaneEvent]"]:
    """Run a station with a driver, and a device plugged into its one port."""
    files = home.home.station(STATION)
    identity = StationIdentity.load(files.certificate, files.key)
    pem = home.home.server_trust.read_bytes()
    servers = tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))
    events: asyncio.Queue[LaneEvent] = asyncio.Queue()
    server = AdminSocket(path=home.home.admin_socket, station=STATION)
    with at_pty(unit) as port:
        async with (
            Ledger.opened(folder / "ledger.db", clock=utc_now, identity=identity) as ledger,
            HttpEnroller.opened(server, servers=servers) as enroller,
        ):
            station = Station(
                identity=identity,
                ledger=ledger,
                enroller=enroller,
                ids=IdRule(prefix=f"{secrets.token_hex(4)}-"),
                drivers=drivers_of(choice, baud=115200),
            )
            work = asyncio.ensure_future(station.run([port], report=events.put_nowait))
            try:
                yield events
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)


async def until(events: "asyncio.Queue[LaneEvent]", stage: Stage) -> LaneEvent:
    async with asyncio.timeout(60):
        while True:
            event = await events.get()
            if event.stage is stage:
                return event


@pytest.mark.parametrize(
    ("unit", "name", "assurance", "evidence"),
    [
        (Modem(echoes=True), Name.NRF91_AT, Assurance.APPROVED, "the word of station local"),
        (NcsShell(logs=True), Name.NCS_SHELL, Assurance.APPROVED, "the word of station local"),
        (
            Shell(),
            Name.ZEPHYR_CRED,
            Assurance.CODE,
            "the word of station local; its key was made outside of the device",
        ),
    ],
    ids=lambda value: value.value if isinstance(value, Name) else None,
)
async def test_a_device_of_other_people_ends_as_our_own_with_its_assurance_on_record(
    home: FleetHome,
    service: Service,
    tmp_path: Path,
    *,
    unit: Unit,
    name: Name,
    assurance: Assurance,
    evidence: str,
) -> None:
    choice = Choice(name=name, host_keys=HostKeys.ALLOWED)
    async with line(home, tmp_path, unit, choice) as events:
        event = await until(events, Stage.SYNCED)
    identity = Identity(domain="prod", device_id=event.device_id)
    device = await service.context.store.read(load_device, identity)
    record = await service.context.store.read(load_record, identity)
    proofs = await service.context.store.read(proofs_of, identity)
    assert device is not None
    assert record is not None
    assert {one.serial: one.state for one in device.certificates} == {event.serial: CertificateState.ACTIVE}
    assert record.assurance is assurance
    assert [proof.evidence for proof in proofs] == [evidence]


async def test_a_device_that_is_left_on_the_port_is_not_made_again(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    modem = Modem()
    async with line(home, tmp_path, modem, Choice(name=Name.NRF91_AT)) as events:
        await until(events, Stage.SYNCED)
    async with line(home, tmp_path, modem, Choice(name=Name.NRF91_AT)) as events:
        again = await until(events, Stage.COMMITTED)
    assert modem.generated == 1
    assert again.hardware_id == str(modem.uuid)
