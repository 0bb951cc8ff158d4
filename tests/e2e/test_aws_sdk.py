"""Unmodified AWS SDK clients enroll through our brokers, each seeing its own answers only."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import awscrt.mqtt
import pytest
from awsiot import mqtt_connection_builder
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from device_agent.wire import cbor
from device_agent.wire.identity import Identity, serial_hex
from fleet.model import CertificateState
from fleet.ra.requests.templates import add
from fleet.store import audit
from fleet.store.attributes import attributes_of
from fleet.store.audit import AuditQuery
from fleet.store.certificates import load_certificate
from tests.aws import Claim, Created, Sdk, SdkRefusedError, claim_for, sdk_5, sdk_311
from tests.desk import Unit
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import MqttClient, client_context

TEMPLATE = """
domain = "prod"
device_id = "{SerialNumber}"

[parameters.SerialNumber]
pattern = "[A-Za-z0-9-]{2,32}"

[parameters.Site]
required = false

[configuration]
region = "eu-1"
interval = "60"
"""

Connect = Callable[[LiveFleet, Claim, str], AbstractAsyncContextManager[Sdk]]

MOSQUITTO = pytest.mark.needs("mosquitto", "gcc")
WAYS = [
    pytest.param(("mosquitto", sdk_311), id="mosquitto-3.1.1", marks=MOSQUITTO),
    pytest.param(("mosquitto", sdk_5), id="mosquitto-5", marks=MOSQUITTO),
    pytest.param(("embedded", sdk_311), id="embedded-3.1.1"),
]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FleetHome]:
    folder = tmp_path_factory.mktemp("aws")
    return {name: make_live_home(folder / name, driver=name) for name in ("mosquitto", "embedded")}


@pytest.fixture(params=WAYS)
async def way(
    request: pytest.FixtureRequest, homes: dict[str, FleetHome], tmp_path: Path
) -> AsyncIterator[tuple[LiveFleet, Connect]]:
    driver, connect = request.param
    async with live(homes[driver], tmp_path) as fleet:
        await add(fleet.context, "line3", text=TEMPLATE, actor="operator:test")
        yield fleet, connect


async def provision(sdk: Sdk, unit: Unit) -> Created:
    created = await sdk.create(unit.csr)
    await sdk.register("line3", created.token, SerialNumber=unit.device_id)
    return created


@dataclass(frozen=True, kw_only=True)
class Line:
    """A fleet, how devices reach it, and one that is registered for a claim of its own: homes are shared."""

    fleet: LiveFleet
    connect: Connect
    batch: str
    unit: Unit
    claim: Claim


@pytest.fixture
async def line(way: tuple[LiveFleet, Connect], request: pytest.FixtureRequest) -> Line:
    fleet, connect = way
    batch = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    unit = Unit(device_id=f"SN-{batch}")
    others = [f"SN-{batch}-{number}" for number in range(6)]
    claim = await claim_for(fleet, batch, unit.device_id, *others)
    return Line(fleet=fleet, connect=connect, batch=batch, unit=unit, claim=claim)


async def test_a_device_goes_from_its_claim_to_its_own_topics(
    line: Line,
) -> None:
    fleet, connect, unit, claim = line.fleet, line.connect, line.unit, line.claim

    async with connect(fleet, claim, "sdk-sample-1") as sdk:
        created = await sdk.create(unit.csr)
        thing = await sdk.register("line3", created.token, SerialNumber=unit.device_id, Site="Ulm")

    assert thing.thing_name == f"prod:{unit.device_id}"
    assert thing.configuration == {"region": "eu-1", "interval": "60"}
    leaf = x509.load_pem_x509_certificate(created.certificate_pem.encode())
    assert created.certificate_id == leaf.fingerprint(hashes.SHA256()).hex()
    assert await publishes_as(fleet, unit, created, thing.thing_name) == b"21.5"
    identity = Identity(domain="prod", device_id=unit.device_id)
    assert await fleet.context.store.read(attributes_of, identity) == {
        "SerialNumber": unit.device_id,
        "Site": "Ulm",
    }


async def publishes_as(fleet: LiveFleet, unit: Unit, created: Created, name: str) -> bytes:
    """Connect with the SDK and the new certificate, and hear oneself on one's own topic."""
    certificate, key = files_of(fleet, unit, created)
    connection = mqtt_connection_builder.mtls_from_path(
        endpoint="localhost",
        port=fleet.context.endpoints.mqtt_port,
        cert_filepath=str(certificate),
        pri_key_filepath=str(key),
        ca_filepath=str(fleet.home.home.server_trust),
        client_id=name,
        clean_session=True,
    )
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[bytes] = loop.create_future()
    topic = f"devices/{name.replace(':', '/')}/telemetry"

    def hear(topic: str, payload: bytes, **_: object) -> None:
        loop.call_soon_threadsafe(heard.set_result, payload)

    async with asyncio.timeout(20):
        await asyncio.wrap_future(connection.connect())
        subscribed, _ = connection.subscribe(topic, awscrt.mqtt.QoS.AT_LEAST_ONCE, hear)
        await asyncio.wrap_future(subscribed)
        published, _ = connection.publish(topic, "21.5", awscrt.mqtt.QoS.AT_LEAST_ONCE)
        await asyncio.wrap_future(published)
        found = await heard
        await asyncio.wrap_future(connection.disconnect())
    return found


def files_of(fleet: LiveFleet, unit: Unit, created: Created) -> tuple[Path, Path]:
    certificate = fleet.folder / f"{unit.key_hash}.crt"
    key = certificate.with_suffix(".key")
    certificate.write_text(created.certificate_pem)
    key.write_bytes(unit.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


async def test_however_many_share_a_claim_each_gets_its_own_certificate(
    line: Line,
) -> None:
    units = [Unit(device_id=f"SN-{line.batch}-{number}") for number in range(6)]

    async with AsyncExitStack() as stack:
        ways = [line.connect(line.fleet, line.claim, f"sdk/{number}+#") for number in range(6)]
        sdks = [await stack.enter_async_context(way) for way in ways]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(provision(sdk, unit)) for sdk, unit in zip(sdks, units, strict=True)]

    for task, unit in zip(tasks, units, strict=True):
        leaf = x509.load_pem_x509_certificate(task.result().certificate_pem.encode())
        assert leaf.public_key() == unit.key.public_key()
        names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert [name.value for name in names] == [unit.device_id]


async def bare(fleet: LiveFleet, claim: Claim, *topics: str) -> MqttClient:
    """Connect without an SDK, and listen to both outcomes."""
    tls = client_context(trust=claim.trust, certificate=claim.certificate, key=claim.key)
    client = await MqttClient.open(tls, port=fleet.context.endpoints.mqtt_bootstrap_port)
    assert await client.connect("bare") == 0
    for topic in topics:
        assert await client.subscribe(f"{topic}/accepted", f"{topic}/rejected") == [1, 1]
    return client


async def test_a_key_is_never_made_for_a_device(
    line: Line,
) -> None:
    topic = "$aws/certificates/create/json"
    client = await bare(line.fleet, line.claim, topic)

    await client.publish(topic, b"{}")
    answer = await client.receive()
    await client.close()

    assert answer.topic == f"{topic}/rejected"
    assert b'"statusCode": 403' in answer.body
    assert b"AccessDenied" in answer.body


async def test_devices_that_speak_cbor_enroll_as_well(
    line: Line,
) -> None:
    unit = line.unit
    create = "$aws/certificates/create-from-csr/cbor"
    register = "$aws/provisioning-templates/line3/provision/cbor"
    client = await bare(line.fleet, line.claim, create, register)

    await client.publish(create, cbor.encode({"certificateSigningRequest": unit.csr}))
    created = cbor.decode((await client.receive()).body)
    assert isinstance(created, dict)
    token = created["certificateOwnershipToken"]
    parameters: cbor.Item = {"SerialNumber": unit.device_id}
    await client.publish(
        register, cbor.encode({"certificateOwnershipToken": token, "parameters": parameters})
    )
    thing = cbor.decode((await client.receive()).body)
    await client.close()

    assert isinstance(thing, dict)
    assert thing["thingName"] == f"prod:{unit.device_id}"


async def test_a_token_outlives_the_server_that_gave_it(homes: dict[str, FleetHome], tmp_path: Path) -> None:
    unit = Unit(device_id="SN-restart")
    home = homes["embedded"]
    async with live(home, tmp_path) as fleet:
        await add(fleet.context, "line3", text=TEMPLATE, actor="operator:test")
        claim = await claim_for(fleet, "restart", unit.device_id)
        async with sdk_311(fleet, claim, "sdk-1") as sdk:
            created = await sdk.create(unit.csr)
    async with live(home, tmp_path) as fleet, sdk_311(fleet, claim, "sdk-1") as sdk:
        thing = await sdk.register("line3", created.token, SerialNumber=unit.device_id)

    assert thing.thing_name == "prod:SN-restart"


async def test_what_the_sdk_is_refused_it_is_told_with_aws_own_words(
    line: Line,
) -> None:
    unit, stranger = line.unit, Unit(device_id=f"other-{line.batch}")
    async with line.connect(line.fleet, line.claim, "sdk-1") as sdk:
        with pytest.raises(SdkRefusedError) as garbage:
            await sdk.create("no request")
        with pytest.raises(SdkRefusedError) as unknown:
            await sdk.create(stranger.csr)
        created = await sdk.create(unit.csr)
        with pytest.raises(SdkRefusedError) as no_template:
            await sdk.register("nowhere", created.token, SerialNumber=unit.device_id)
        with pytest.raises(SdkRefusedError) as no_parameter:
            await sdk.register("line3", created.token)
        with pytest.raises(SdkRefusedError) as other_thing:
            await sdk.register("line3", created.token, SerialNumber="SN-other")
        with pytest.raises(SdkRefusedError) as no_token:
            await sdk.register("line3", "guessed", SerialNumber=unit.device_id)
        await sdk.register("line3", created.token, SerialNumber=unit.device_id)
        with pytest.raises(SdkRefusedError) as replayed:
            await sdk.register("line3", created.token, SerialNumber=unit.device_id)

    refusals = (garbage, unknown, no_template, no_parameter, other_thing, no_token, replayed)
    assert [(one.value.status, one.value.code) for one in refusals] == [
        (400, "InvalidCertificateSigningRequest"),
        (403, "AccessDenied"),
        (404, "ResourceNotFound"),
        (400, "InvalidPayload"),
        (403, "AccessDenied"),
        (400, "InvalidCertificateOwnershipToken"),
        (400, "InvalidCertificateOwnershipToken"),
    ]
    assert "approve" in unknown.value.message


async def test_a_certificate_is_worth_nothing_before_its_thing_is_registered(
    line: Line,
) -> None:
    fleet, connect, unit, claim = line.fleet, line.connect, line.unit, line.claim
    async with connect(fleet, claim, "sdk-1") as sdk:
        created = await sdk.create(unit.csr)
        before = await connack(fleet, unit, created)
        await sdk.register("line3", created.token, SerialNumber=unit.device_id)
        after = await connack(fleet, unit, created)
        again = await sdk.create(unit.csr)
        await sdk.register("line3", again.token, SerialNumber=unit.device_id)

    assert (before, after) == (5, 0)
    assert again.certificate_pem == created.certificate_pem
    leaf = x509.load_pem_x509_certificate(created.certificate_pem.encode())
    row = await fleet.context.store.read(load_certificate, serial_hex(leaf.serial_number))
    assert row is not None
    assert row.state is CertificateState.ACTIVE
    query = AuditQuery(domain="prod", device_id=unit.device_id)
    story = [entry.entry.action for entry in await fleet.context.store.read(audit.search, query)]
    assert [action for action in story if action.startswith(("certificate", "provisioning", "thing"))] == [
        "provisioning.intended",
        "provisioning.signed",
        "certificate.intended",
        "certificate.issued",
        "certificate.confirmed",
        "thing.registered",
    ]


async def connack(fleet: LiveFleet, unit: Unit, created: Created) -> int:
    certificate, key = files_of(fleet, unit, created)
    tls = client_context(trust=fleet.home.home.server_trust, certificate=certificate, key=key)
    client = await MqttClient.open(tls, port=fleet.context.endpoints.mqtt_port)
    code = await client.connect(f"prod:{unit.device_id}")
    await client.close()
    return code
