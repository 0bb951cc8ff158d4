"""A unit made while the server was away: a real agent, a real broker, and a station that signs by itself.

Its certificate opens nothing until the station's journal has come. Then the device connects, and gets one of
the domain's own CA at once.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.agent import Agent
from device_agent.config import Settings
from fleet.ca.requesting import signer_csr
from fleet.ca.signers import KeySigner, make_key, plain_pem
from fleet.core.station_rules import RuleTexts
from fleet.core.station_sync import JournalReceipt, JournalUpload
from fleet.errors import RefusedError, UnreachableError
from fleet.ra.people.station_report import suspects
from fleet.ra.people.stations import add_station, close_station
from fleet.ra.requests.leases import LeaseOrder, grant_lease
from fleet.station.keeping.lease_files import LeaseFiles, make_authority_key, open_workshop, take_lease
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.package import Issuance, IssueOrder
from fleet.station.link.cable import Cable
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.runner import Station
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.way import HttpsServer
from fleet.station.telling.events import LaneEvent, Stage
from tests.desk import station_order
from tests.homes import FleetHome, utc_now
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import MqttClient, NotLetInError, client_context

BROKERS = (
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
)


@dataclass(kw_only=True)
class Wan:
    """The way to the server, which can be cut."""

    enroller: HttpEnroller
    is_up: bool = False
    issued: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    """The ids that the server answered for, in their order."""

    def _require(self) -> None:
        if not self.is_up:
            raise UnreachableError("the WAN is down")

    async def issue(self, order: IssueOrder) -> Issuance:
        self._require()
        issuance = await self.enroller.issue(order)
        self.issued.put_nowait(order.device_id)
        return issuance

    async def confirm(self, serial: str) -> None:
        self._require()
        await self.enroller.confirm(serial)

    @property
    def connections(self) -> int:
        """How many connections to the server are open."""
        connector = self.enroller._way._road.http.connector
        return 0 if connector is None else sum(map(len, connector._conns.values()))

    async def sync(self, upload: JournalUpload) -> JournalReceipt:
        self._require()
        return await self.enroller.sync(upload)


@dataclass(frozen=True, kw_only=True)
class Factory:
    """A station with a certificate of its own on a computer of its own, and a fleet that it is far from."""

    fleet: LiveFleet
    identity: StationIdentity
    key: Path
    servers: tuple[bytes, ...]
    wan: Wan

    async def lease(self, ledger: Ledger) -> None:
        files = LeaseFiles.beside(self.key)
        csr = make_authority_key(files, "line3", token=None, randomness=bytes(range(64)))
        order = LeaseOrder(station="line3", batch="spring", count=5, days=3, csr=csr, actor="operator:test")
        _, signed = await grant_lease(self.fleet.context, order)
        await take_lease(ledger, signed, identity=self.identity, files=files)

    @asynccontextmanager
    async def line(self, *, leased: bool) -> AsyncIterator[tuple[Station, Cable, "asyncio.Queue[LaneEvent]"]]:
        """Run the station at one cable."""
        events: asyncio.Queue[LaneEvent] = asyncio.Queue()
        ledger_file = self.key.with_suffix(".db")
        opening = Ledger.opened(ledger_file, clock=utc_now, identity=self.identity)
        async with opening as ledger:
            if leased:
                await self.lease(ledger)
            station = Station(
                identity=self.identity,
                ledger=ledger,
                enroller=self.wan,
                ids=IdRule(prefix="spring-"),
                workshop=await open_workshop(ledger, self.identity, key=self.key, servers=self.servers),
            )
            with Cable() as cable:
                work = asyncio.ensure_future(station.run([cable.station_port], report=events.put_nowait))
                try:
                    yield station, cable, events
                finally:
                    work.cancel()
                    await asyncio.gather(work, return_exceptions=True)


@asynccontextmanager
async def factory(fleet: LiveFleet, name: str = "line3") -> AsyncIterator[Factory]:
    signer = KeySigner(make_key())
    csr = signer_csr(signer, name)
    rules = RuleTexts(batches=("spring",), quotas=("spring=20",))
    new = await add_station(fleet.context, station_order(name, rules=rules, csr=csr))
    certificate, key = fleet.folder / f"{name}.crt", fleet.folder / f"{name}.key"
    certificate.write_text(new.own.certificate_pem)
    key.write_bytes(plain_pem(signer._key))
    trust = fleet.home.home.server_trust
    anchors = x509.load_pem_x509_certificates(trust.read_bytes())
    servers = tuple(one.public_bytes(Encoding.DER) for one in anchors)
    tls = client_context(trust=trust, certificate=certificate, key=key)
    server = HttpsServer(host="localhost", port=fleet.context.endpoints.https_port, tls=tls)
    async with HttpEnroller.opened(server, servers=servers) as enroller:
        yield Factory(
            fleet=fleet,
            identity=StationIdentity.load(certificate, key),
            key=key,
            servers=servers,
            wan=Wan(enroller=enroller),
        )


async def until(events: "asyncio.Queue[LaneEvent]", stage: Stage) -> LaneEvent:
    async with asyncio.timeout(60):
        while True:
            event = await events.get()
            if event.stage is stage:
                return event


def tls_of(state: Path, trust: Path) -> ssl.SSLContext:
    current, shown = state / "current", state / "shown.pem"
    shown.write_text((current / "cert.pem").read_text() + (current / "chain.pem").read_text())
    return client_context(trust=trust, certificate=shown, key=current / "key.pem")


async def opens(fleet: LiveFleet, state: Path) -> bool:
    """Tell whether what a device holds is let in by the broker."""
    tls = tls_of(state, fleet.home.home.server_trust)
    try:
        client = await MqttClient.open(tls, port=fleet.context.endpoints.mqtt_port)
        try:
            return await client.connect("prod:spring-0001") == 0
        finally:
            await client.close()
    except (NotLetInError, OSError):
        return False


def issuer_of(state: Path) -> str:
    found = x509.load_pem_x509_certificate((state / "current/cert.pem").read_bytes())
    return found.issuer.rfc4514_string()


@pytest.mark.parametrize("driver", BROKERS)
async def test_a_unit_made_without_the_server_comes_in_after_the_sync_and_renews_at_once(
    driver: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    home = await asyncio.to_thread(make_live_home, tmp_path_factory.mktemp("offline") / "home", driver=driver)
    trust = home.home.server_trust.read_text()
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(live(home, tmp_path))
        at = await stack.enter_async_context(factory(fleet))
        station, cable, events = await stack.enter_async_context(at.line(leased=True))
        state = tmp_path / "state"
        settings = Settings(state=state, hardware_id="hw-1")
        with Agent.opened(settings) as agent:
            await agent.enroll_serial(cable.device_port, device_id="spring-0001", trust_pem=trust)
        await until(events, Stage.COMMITTED)
        assert "line3.prod.acme CA" in issuer_of(state)
        assert not await opens(fleet, state)

        at.wan.is_up = True
        await station.clerk.upload()
        assert await opens(fleet, state)

        with Agent.opened(settings) as agent:
            async with asyncio.timeout(30):
                await agent.renew_once()
        assert "prod device issuing CA" in issuer_of(state)
        assert await opens(fleet, state)
        assert await suspects(fleet.context) == ()


@pytest.fixture(scope="module")
def quiet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("forward") / "home", driver="embedded")


async def test_a_unit_that_was_unplugged_gets_its_certificate_after_the_station_was_restarted(
    quiet_home: FleetHome, tmp_path: Path
) -> None:
    trust = quiet_home.home.server_trust.read_text()
    settings = Settings(state=tmp_path / "state", hardware_id="hw-1")
    async with live(quiet_home, tmp_path) as fleet, factory(fleet) as at:
        async with at.line(leased=False) as (_, cable, events):
            with Agent.opened(settings) as agent:
                waiting = asyncio.ensure_future(agent.enroll_serial(cable.device_port, trust_pem=trust))
                held = await until(events, Stage.HELD)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
        assert "the WAN is down" in held.detail

        at.wan.is_up = True
        async with at.line(leased=False) as (_, cable, events):
            async with asyncio.timeout(30):
                assert await at.wan.issued.get() == "spring-0001"
            with Agent.opened(settings) as agent:
                await agent.enroll_serial(cable.device_port, trust_pem=trust)
            synced = await until(events, Stage.SYNCED)
        assert at.wan.issued.empty()
        assert synced.device_id == "spring-0001"
        assert await opens(fleet, tmp_path / "state")


async def test_a_revoked_station_is_refused_on_the_connection_that_it_has(
    quiet_home: FleetHome, tmp_path: Path
) -> None:
    async with live(quiet_home, tmp_path) as fleet, factory(fleet, "line5") as at:
        at.wan.is_up = True
        await at.wan.sync(JournalUpload(now=utc_now()))
        await close_station(fleet.context, "line5", actor="operator:test", reason="stolen")
        with pytest.raises(RefusedError):
            await at.wan.sync(JournalUpload(now=utc_now()))
        assert at.wan.connections == 1
