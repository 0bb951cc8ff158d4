"""Devices that speak EST, from the first certificate to the last, on each broker."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from device_agent.wire.identity import Identity, serial_hex
from fleet.core.profile import device_applicant
from fleet.model import CertificateState, RevocationReason
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.store import allowlist
from fleet.store.certificates import load_certificate
from tests.est import CERTS_ONLY, EstUnit, basic, certificates, leaf
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import MqttClient, NotLetInError, client_context

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]
HEADERS = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}


@pytest.fixture(scope="module", params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("est") / "home", driver=request.param)
    config = made.home.config
    config.write_text(config.read_text().replace("[domains.lab]", "[domains.lab]\nsame_key = true"))
    return made


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@dataclass(kw_only=True)
class EstDevice:
    """A device that has nothing of ours: it trusts what cacerts told it, and speaks EST and MQTT."""

    fleet: LiveFleet
    identity: Identity
    unit: EstUnit
    trust: Path
    code: str
    held: x509.Certificate | None = None

    @classmethod
    async def new(cls, fleet: LiveFleet, device_id: str, *, domain: str = "prod") -> "EstDevice":
        """Register it, give out its code, and let it fetch what it is to trust."""
        known, proof = await fleet.proof_for(device_id, domain=domain)
        assert proof.code is not None
        trust = fleet.folder / f"{domain}-{device_id}-trust.pem"
        async with fleet.https() as session, session.get(f"/.well-known/est/{domain}/cacerts") as response:
            assert response.headers["Content-Type"] == CERTS_ONLY
            found = certificates(await response.read())
        trust.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in found))
        unit = cls.unit_of(known.identity)
        return cls(fleet=fleet, identity=known.identity, unit=unit, trust=trust, code=proof.code.reveal())

    @staticmethod
    def unit_of(identity: Identity) -> EstUnit:
        """Return a fresh key, and a request that names all that the certificate will name."""
        names = device_applicant(identity, fleet="acme").dns_names
        return EstUnit(device_id=identity.device_id, dns_names=names)

    async def enroll(self) -> None:
        async with self.session() as session:
            status, body = await self.post(session, "simpleenroll", self.unit, code=self.code)
        assert status is HTTPStatus.OK, body
        self.held = leaf(body)

    async def renew(self, unit: EstUnit) -> tuple[HTTPStatus, bytes]:
        """Ask for the next certificate over a connection with the one in hand."""
        async with self.session() as session:
            return await self.post(session, "simplereenroll", unit)

    async def post(
        self, session: aiohttp.ClientSession, operation: str, unit: EstUnit, *, code: str | None = None
    ) -> tuple[HTTPStatus, bytes]:
        login = {} if code is None else {"Authorization": basic(unit.device_id, code)}
        path = f"/.well-known/est/{self.identity.domain}/{operation}"
        async with session.post(path, data=unit.csr, headers=HEADERS | login) as response:
            return HTTPStatus(response.status), await response.read()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        base = f"https://localhost:{self.fleet.context.endpoints.https_port}"
        async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=self.tls())) as session:
            yield session

    def tls(self) -> ssl.SSLContext:
        """Show the leaf alone to HTTPS: that is all that simpleenroll has brought."""
        if self.held is None:
            return client_context(trust=self.trust)
        return client_context(trust=self.trust, certificate=self._file(".crt", b""), key=self._key())

    def mqtt_tls(self) -> ssl.SSLContext:
        """Show the chain, its issuing CA taken from cacerts."""
        chain = self._file(".chain.crt", self.trust.read_bytes())
        return client_context(trust=self.trust, certificate=chain, key=self._key())

    @property
    def serial(self) -> str:
        assert self.held is not None
        return serial_hex(self.held.serial_number)

    def _file(self, suffix: str, more: bytes) -> Path:
        assert self.held is not None
        path = self.fleet.folder / f"{self.serial}{suffix}"
        path.write_bytes(self.held.public_bytes(Encoding.PEM) + more)
        return path

    def _key(self) -> Path:
        path = self.fleet.folder / f"{self.serial}.key"
        path.write_bytes(self.unit.key_pem)
        return path

    async def use(self) -> None:
        """Connect to the broker with paho, and wait until the server has heard of it."""
        await asyncio.to_thread(self._connect_with_paho)
        async with asyncio.timeout(10):
            while await self.state() is not CertificateState.ACTIVE:
                pass  # each turn waits for the store
            # The commit comes first: the broker hears of what it superseded right after it.
            context = self.fleet.context
            await context.broker.reach(await context.store.read(allowlist.sequence, None))

    def _connect_with_paho(self) -> None:
        answers: list[str] = []
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self.identity.name)
        client.on_connect = lambda *told: answers.append(str(told[3]))
        client.tls_set_context(self.mqtt_tls())
        client.connect("localhost", self.fleet.context.endpoints.mqtt_port)
        while not answers:
            assert client.loop(timeout=10) is MQTTErrorCode.MQTT_ERR_SUCCESS
        client.disconnect()
        assert answers == ["Success"]

    async def state(self) -> CertificateState:
        row = await self.fleet.context.store.read(load_certificate, self.serial)
        assert row is not None
        return row.state

    async def is_let_in(self) -> bool:
        """Tell whether the broker admits the certificate."""
        try:
            client = await MqttClient.open(self.mqtt_tls(), port=self.fleet.context.endpoints.mqtt_port)
            code = await client.connect(self.identity.name)
            await client.close()
        except NotLetInError:
            return False
        return code == 0


async def test_a_device_enrolls_connects_renews_and_its_old_certificate_is_let_in_no_more(
    fleet: LiveFleet,
) -> None:
    device = await EstDevice.new(fleet, "lives")
    await device.enroll()
    assert await device.state() is CertificateState.ISSUED

    await device.use()
    old_key, old = device.unit, device.held
    fresh = EstDevice.unit_of(device.identity)
    status, body = await device.renew(fresh)
    assert status is HTTPStatus.OK, body
    device.unit, device.held = fresh, leaf(body)
    await device.use()

    device.unit, device.held = old_key, old
    assert await device.state() is CertificateState.SUPERSEDED
    assert not await device.is_let_in()


async def test_a_profile_may_let_a_device_keep_its_key(fleet: LiveFleet) -> None:
    device = await EstDevice.new(fleet, "keeps", domain="lab")
    await device.enroll()
    await device.use()
    first = device.serial

    status, body = await device.renew(device.unit)
    assert status is HTTPStatus.OK, body
    device.held = leaf(body)
    await device.use()

    assert device.serial > first


async def test_a_key_is_not_kept_by_default(fleet: LiveFleet) -> None:
    device = await EstDevice.new(fleet, "rekeys")
    await device.enroll()
    status, _ = await device.renew(device.unit)
    assert status is HTTPStatus.CONFLICT


async def test_a_renewal_before_the_first_connection_counts_as_the_first_use(fleet: LiveFleet) -> None:
    device = await EstDevice.new(fleet, "eager")
    await device.enroll()
    status, _ = await device.renew(EstDevice.unit_of(device.identity))
    assert status is HTTPStatus.OK
    assert await device.state() is CertificateState.ACTIVE


async def test_of_two_keys_with_one_code_at_once_exactly_one_wins(fleet: LiveFleet) -> None:
    device = await EstDevice.new(fleet, "races")
    units = [EstDevice.unit_of(device.identity) for _ in range(4)]

    async with device.session() as session:
        replies = await asyncio.gather(
            *(device.post(session, "simpleenroll", unit, code=device.code) for unit in units)
        )
        late, _ = await device.post(
            session, "simpleenroll", EstDevice.unit_of(device.identity), code=device.code
        )

    assert sorted(status for status, _ in replies) == [HTTPStatus.OK, *[HTTPStatus.CONFLICT] * 3]
    assert late is HTTPStatus.CONFLICT


async def test_a_repeated_request_gets_the_same_certificate(fleet: LiveFleet) -> None:
    device = await EstDevice.new(fleet, "repeats")

    async with device.session() as session:
        replies = await asyncio.gather(
            *(device.post(session, "simpleenroll", device.unit, code=device.code) for _ in range(4))
        )

    assert len({leaf(body) for _, body in replies}) == 1


async def test_a_revoked_device_neither_connects_nor_renews(fleet: LiveFleet) -> None:
    device = await EstDevice.new(fleet, "revoked")
    await device.enroll()
    await device.use()

    await revoke(
        fleet.context,
        ByDevice(identities=(device.identity,)),
        reason=RevocationReason.KEY_COMPROMISE,
        actor="operator:test",
    )

    status, body = await device.renew(EstDevice.unit_of(device.identity))
    assert status is HTTPStatus.FORBIDDEN
    assert body == b"the certificate is revoked\n"
    assert not await device.is_let_in()


async def test_a_certificate_of_one_domain_is_nothing_to_another(fleet: LiveFleet) -> None:
    device = await EstDevice.new(fleet, "strays")
    await device.enroll()

    async with device.session() as session:
        path = "/.well-known/est/lab/simplereenroll"
        async with session.post(path, data=device.unit.csr, headers=HEADERS) as response:
            assert response.status == HTTPStatus.FORBIDDEN


async def test_a_claim_certificate_of_a_domain_is_taken_over_tls(fleet: LiveFleet) -> None:
    claim = fleet.home.home.public_claim("prod")
    tls = client_context(trust=fleet.home.home.server_trust, certificate=claim.certificate, key=claim.key)
    device = await EstDevice.new(fleet, "claims")
    base = f"https://localhost:{fleet.context.endpoints.https_port}"

    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=tls)) as session:
        alone, _ = await device.post(session, "simpleenroll", device.unit)
        with_code, _ = await device.post(session, "simpleenroll", device.unit, code=device.code)

    assert alone is HTTPStatus.FORBIDDEN  # the public claim grants nothing
    assert with_code is HTTPStatus.OK
