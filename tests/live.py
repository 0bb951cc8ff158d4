"""A real service on free ports, and devices that speak to it over real connections."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import aiohttp
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.wire import messages
from device_agent.wire.identity import Identity
from device_agent.wire.messages import Reply, Request
from device_agent.wire.replies import Confirmed, Issued
from device_agent.wire.requests import Confirm, Proof, ProofKind
from device_agent.wire.topics import EnrollTopics, OperationalTopics
from fleet.ra.authority.initialise import Plan
from fleet.ra.context import Context
from fleet.ra.people.claims import CodeOrder, create_codes
from fleet.service import Listeners, Service, running
from tests.desk import Unit
from tests.homes import FleetHome, make_home
from tests.mqtt import MqttClient, client_context

PLAN = Plan(fleet="acme", domains=("prod", "lab"), hosts=("localhost",))


def make_live_home(root: Path, *, driver: str, stop: bool = True) -> FleetHome:
    """Make a home whose service takes free ports; must not be called inside an event loop."""
    made = make_home(root, plan=PLAN)
    configure(made.home.config, driver=driver, stop=stop)
    return made


def configure(
    path: Path, *, driver: str, stop: bool = True, ports: Mapping[str, int] = MappingProxyType({})
) -> None:
    """Write the configuration of a fleet on free ports, but for those that are given."""
    path.write_text(
        f"""
[fleet]
name = "acme"
[server]
mqtt_port = {ports.get("mqtt_port", 0)}
mqtt_bootstrap_port = {ports.get("mqtt_bootstrap_port", 0)}
https_port = {ports.get("https_port", 0)}
http_port = {ports.get("http_port", 0)}
[broker]
driver = "{driver}"
stop_with_server = {str(stop).lower()}
[domains.prod]
[domains.lab]
"""
    )


@dataclass(kw_only=True)
class LiveDevice:
    """A device with its files and its certificates, over real MQTT."""

    fleet: "LiveFleet"
    identity: Identity
    unit: Unit
    issued: Issued | None = None

    @property
    def topics(self) -> OperationalTopics:
        assert self.issued is not None
        return OperationalTopics(identity=self.identity, serial=self.issued.serial)

    async def enroll(self, proof: Proof) -> Reply:
        """Ask at the bootstrap listener, with the public claim of the domain."""
        async with self.fleet.bootstrap(self.identity.domain, self.unit.key_hash) as client:
            return await ask(
                client, EnrollTopics(client=self.unit.key_hash), messages.encode(self.unit.enroll(proof))
            )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[MqttClient]:
        """Connect to the operational listener with the certificate in hand."""
        client = await MqttClient.open(self.tls(), port=self.fleet.context.endpoints.mqtt_port)
        try:
            assert await client.connect(self.identity.name) == 0
            yield client
        finally:
            await client.close()

    async def ask(self, request: Request, client: MqttClient) -> Reply:
        return await ask(client, self.topics, messages.encode(request))

    async def confirm(self) -> None:
        async with self.connected() as client:
            assert isinstance(await self.ask(Confirm(id=str(uuid4())), client), Confirmed)

    def tls(self) -> ssl.SSLContext:
        certificate, key = self.files()
        return client_context(trust=self.fleet.home.home.server_trust, certificate=certificate, key=key)

    def files(self) -> tuple[Path, Path]:
        assert self.issued is not None
        certificate = self.fleet.folder / f"{self.issued.serial}.crt"
        key = certificate.with_suffix(".key")
        certificate.write_text(self.issued.certificate + self.issued.chain)
        pem = self.unit.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        key.write_bytes(pem)
        return certificate, key


@dataclass(kw_only=True)
class LiveFleet:
    """A running service, as its devices and relying parties reach it."""

    home: FleetHome
    service: Service
    folder: Path

    @property
    def context(self) -> Context:
        return self.service.context

    async def proof_for(self, device_id: str, *, domain: str = "prod") -> tuple[LiveDevice, Proof]:
        """Register a device and give out a code for it."""
        identity = Identity(domain=domain, device_id=device_id)
        order = CodeOrder(identities=(identity,), actor="operator:test", lifetime=timedelta(days=1))
        (code,) = await create_codes(self.context, order)
        device = LiveDevice(fleet=self, identity=identity, unit=Unit(device_id=device_id))
        return device, Proof(kind=ProofKind.CODE, code=code.code)

    async def enrolled(self, device_id: str, *, domain: str = "prod") -> LiveDevice:
        """Return a device that has its first certificate, confirmed."""
        device, proof = await self.proof_for(device_id, domain=domain)
        reply = await device.enroll(proof)
        assert isinstance(reply, Issued), reply
        device.issued = reply
        await device.confirm()
        return device

    @asynccontextmanager
    async def bootstrap(self, domain: str, client_id: str) -> AsyncIterator[MqttClient]:
        claim = self.home.home.public_claim(domain)
        tls = client_context(trust=self.home.home.server_trust, certificate=claim.certificate, key=claim.key)
        client = await MqttClient.open(tls, port=self.context.endpoints.mqtt_bootstrap_port)
        try:
            assert await client.connect(client_id) == 0
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def https(self, device: LiveDevice | None = None) -> AsyncIterator[aiohttp.ClientSession]:
        """Return an HTTPS client, with a device's certificate or with none."""
        tls = client_context(trust=self.home.home.server_trust) if device is None else device.tls()
        base = f"https://localhost:{self.context.endpoints.https_port}"
        async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=tls)) as session:
            yield session

    @asynccontextmanager
    async def http(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(f"http://localhost:{self.context.endpoints.http_port}") as session:
            yield session

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.UnixConnector(path=str(self.service.admin_socket))
        async with aiohttp.ClientSession("http://fleet", connector=connector) as session:
            yield session


async def ask(client: MqttClient, topics: EnrollTopics | OperationalTopics, body: bytes) -> Reply:
    """Publish a request, and return what comes on the derived answer topic."""
    assert await client.subscribe(topics.response) == [1]
    await client.publish(topics.request, body)
    message = await client.receive()
    assert message.topic == topics.response
    return messages.parse_reply(message.body)


async def post(
    session: aiohttp.ClientSession, path: str, body: bytes
) -> tuple[HTTPStatus, dict[str, object]]:
    async with session.post(path, data=body, headers={"Content-Type": "application/json"}) as response:
        found: dict[str, object] = json.loads(await response.read())
        return HTTPStatus(response.status), found


@asynccontextmanager
async def live(
    home: FleetHome, folder: Path, *, listeners: Listeners = Listeners.ALL
) -> AsyncIterator[LiveFleet]:
    """Run the service of a home."""
    async with asyncio.timeout(120), running(home.home.root, listeners=listeners) as service:
        yield LiveFleet(home=home, service=service, folder=folder)
