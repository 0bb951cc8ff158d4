"""A fleet of another authority comes in by a list, moves to ours as it renews; what is left is cut off."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from device_agent.agent import Agent, ClaimFiles, MqttEnrollment
from device_agent.config import Settings
from device_agent.wire import messages
from device_agent.wire.identity import Identity, serial_hex
from device_agent.wire.messages import Reply
from device_agent.wire.replies import Confirmed, Issued, Status
from device_agent.wire.requests import Confirm, Renew, StatusQuery
from fleet.model import Alarm, CertificateState, ClientKind
from fleet.ra.adopted.adoption import add_leaves, close_adoption, open_adoption, standings, take_lists
from fleet.store.certificates import load_certificate
from fleet.store.devices import load_device
from tests.adopted import OPERATOR, OtherFleet, row, topics
from tests.desk import Unit
from tests.est import leaf as est_leaf
from tests.homes import FleetHome
from tests.live import LiveDevice, LiveFleet, ask, live, make_live_home
from tests.mqtt import REFUSED_SUBSCRIPTION, MqttClient, NotLetInError, client_context
from tests.pki import Pair

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]
OPENED: list[MqttClient] = []


@pytest.fixture(scope="module", params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("adopting") / "home", driver=request.param)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    yield
    while OPENED:
        await OPENED.pop().close()


@pytest.fixture
def name() -> str:
    return f"old-{uuid4().hex[:8]}"


def tls_of(fleet: LiveFleet, pair: Pair) -> ssl.SSLContext:
    certificate, key = pair.write(fleet.folder / uuid4().hex, "device")
    return client_context(trust=fleet.home.home.server_trust, certificate=certificate, key=key)


async def connect(fleet: LiveFleet, pair: Pair, device_id: str) -> MqttClient:
    client = await MqttClient.open(tls_of(fleet, pair), port=fleet.context.endpoints.mqtt_port)
    OPENED.append(client)
    assert await client.connect(f"prod:{device_id}") == 0
    return client


async def is_refused(fleet: LiveFleet, pair: Pair, device_id: str) -> bool:
    try:
        client = await MqttClient.open(tls_of(fleet, pair), port=fleet.context.endpoints.mqtt_port)
        OPENED.append(client)
        code = await client.connect(f"prod:{device_id}")
    except NotLetInError:
        return True
    return code != 0


async def uses(fleet: LiveFleet, device_id: str, serial: str) -> None:
    """Return when the server has heard from the broker that a certificate is in use."""
    identity = Identity(domain="prod", device_id=device_id)
    async with asyncio.timeout(20):
        while (device := await fleet.context.store.read(load_device, identity)) is None or (
            device.current != serial
        ):
            continue


async def is_soon_refused(fleet: LiveFleet, pair: Pair, device_id: str) -> bool:
    """Return True as soon as a leaf is refused: brokers hear of what was kept a moment later."""
    async with asyncio.timeout(5):
        while not await is_refused(fleet, pair, device_id):
            continue
    return True


async def renew(client: MqttClient, pair: Pair, unit: Unit, *, attempt: int | None = None) -> Reply:
    body = messages.encode(Renew(id=uuid4().hex, csr=unit.csr, attempt=attempt))
    return await ask(client, topics(unit.device_id, pair), body)


@pytest.mark.parametrize("serial", [7, 0xFE << 120, 0x7F << 152 | 9], ids=["short", "16 octets", "20 octets"])
async def test_a_plain_client_connects_with_its_old_leaf_renews_and_is_ours_from_then_on(
    fleet: LiveFleet, name: str, serial: int
) -> None:
    other, device_id = OtherFleet(), f"d-{uuid4().hex[:8]}"
    pair = other.device(serial=serial)
    assert await is_refused(fleet, pair, device_id)
    await open_adoption(fleet.context, other.opening(name))
    assert await is_refused(fleet, pair, device_id)
    await add_leaves(fleet.context, name, [row(device_id, pair)], actor=OPERATOR)

    old = await connect(fleet, pair, device_id)
    assert isinstance(await status(old, pair, device_id), Status)
    unit = Unit(device_id=device_id)
    issued = await renew(old, pair, unit)
    assert isinstance(issued, Issued), issued
    moved = LiveDevice(
        fleet=fleet, identity=Identity(domain="prod", device_id=device_id), unit=unit, issued=issued
    )
    await old.disconnect()
    async with moved.connected() as client:
        assert isinstance(await moved.ask(StatusQuery(id=uuid4().hex), client), Status)
        await uses(fleet, device_id, issued.serial)

    assert issued.serial[0] in "4567"
    (standing,) = [one for one in await standings(fleet.context) if one.adoption.name == name]
    assert await is_soon_refused(fleet, pair, device_id)
    assert (standing.here, standing.moved) == (0, 1)
    await close_adoption(fleet.context, name, actor=OPERATOR)


async def status(client: MqttClient, pair: Pair, device_id: str) -> Reply:
    return await ask(client, topics(device_id, pair), messages.encode(StatusQuery(id=uuid4().hex)))


async def test_an_agent_renews_by_its_old_leaf_and_confirms_like_any_agent(
    fleet: LiveFleet, name: str
) -> None:
    other, device_id = OtherFleet(), f"a-{uuid4().hex[:8]}"
    pair, unit = other.device(), Unit(device_id=device_id)
    await open_adoption(fleet.context, other.opening(name))
    await add_leaves(fleet.context, name, [row(device_id, pair)], actor=OPERATOR)
    old = await connect(fleet, pair, device_id)
    issued = await renew(old, pair, unit, attempt=1)
    again = await renew(old, pair, unit, attempt=1)
    assert isinstance(issued, Issued), issued
    assert isinstance(again, Issued)
    assert again.serial == issued.serial

    identity = Identity(domain="prod", device_id=device_id)
    moved = LiveDevice(fleet=fleet, identity=identity, unit=unit, issued=issued)
    await old.disconnect()
    async with moved.connected() as client:
        assert isinstance(await moved.ask(Confirm(id=uuid4().hex), client), Confirmed)

    device = await fleet.context.store.read(load_device, identity)
    assert device is not None
    assert (device.kind, device.current) == (ClientKind.AGENT, issued.serial)
    assert await is_refused(fleet, pair, device_id)
    await close_adoption(fleet.context, name, actor=OPERATOR)


async def test_our_own_agent_moves_from_its_old_leaf_and_lives_on_with_ours(
    fleet: LiveFleet, name: str, tmp_path: Path
) -> None:
    other, device_id = OtherFleet(), f"m-{uuid4().hex[:8]}"
    pair = other.device(serial=0x7F << 152 | 77)
    await open_adoption(fleet.context, other.opening(name))
    await add_leaves(fleet.context, name, [row(device_id, pair)], actor=OPERATOR)
    certificate, key = pair.write(tmp_path / "old", "device")
    wanted = MqttEnrollment(
        host="localhost",
        port=fleet.context.endpoints.mqtt_port,
        device_id=device_id,
        trust_pem=fleet.home.home.server_trust.read_text(),
        claim=ClaimFiles(certificate=certificate, key=key),
        domain="prod",
    )

    with Agent.opened(Settings(state=tmp_path / "state", first_wait=timedelta(milliseconds=100))) as agent:
        moved = await agent.enroll_mqtt(wanted)
        next_one = await agent.renew_once()

    assert moved.name == f"prod:{device_id}"
    assert moved.serial is not None
    assert next_one.serial is not None
    assert moved.serial < next_one.serial
    assert await is_refused(fleet, pair, device_id)
    device = await fleet.context.store.read(load_device, Identity(domain="prod", device_id=device_id))
    assert device is not None
    assert (device.kind, device.current, device.alarm) == (ClientKind.AGENT, next_one.serial, Alarm.NONE)
    await close_adoption(fleet.context, name, actor=OPERATOR)


async def test_an_old_leaf_reaches_no_topic_but_its_own(fleet: LiveFleet, name: str) -> None:
    other = OtherFleet()
    pair, neighbour = other.device("one"), other.device("two")
    ids = [f"t-{uuid4().hex[:8]}" for _ in range(2)]
    await open_adoption(fleet.context, other.opening(name))
    rows = [row(ids[0], pair), row(ids[1], neighbour)]
    await add_leaves(fleet.context, name, rows, actor=OPERATOR)

    client = await connect(fleet, pair, ids[0])

    assert await client.subscribe(topics(ids[0], pair).response) == [1]
    for foreign in (topics(ids[1], neighbour).response, f"devices/prod/{ids[1]}/#", "#"):
        assert await client.subscribe(foreign) == [REFUSED_SUBSCRIPTION]
    assert await is_refused(fleet, pair, ids[1])
    await close_adoption(fleet.context, name, actor=OPERATOR)


async def test_a_leaf_that_is_not_listed_or_has_only_the_serial_number_is_refused(
    fleet: LiveFleet, name: str
) -> None:
    other, device_id = OtherFleet(), f"n-{uuid4().hex[:8]}"
    pair = other.device()
    await open_adoption(fleet.context, other.opening(name))
    await add_leaves(fleet.context, name, [row(device_id, pair)], actor=OPERATOR)
    number = pair.certificate.serial_number
    third = OtherFleet()

    for forged in (other.device("stranger"), other.device(serial=number), third.device(serial=number)):
        assert await is_refused(fleet, forged, device_id)
    assert not await is_refused(fleet, pair, device_id)
    await close_adoption(fleet.context, name, actor=OPERATOR)


async def test_closing_cuts_off_who_has_not_moved_within_a_second_and_lets_the_others_be(
    fleet: LiveFleet, name: str
) -> None:
    other = OtherFleet()
    pairs = {f"c{number}-{uuid4().hex[:6]}": other.device(f"thing-{number}") for number in range(4)}
    await open_adoption(fleet.context, other.opening(name))
    rows = [row(device_id, pair) for device_id, pair in pairs.items()]
    await add_leaves(fleet.context, name, rows, actor=OPERATOR)
    clients = {device_id: await connect(fleet, pair, device_id) for device_id, pair in pairs.items()}
    moving, *staying = pairs
    unit = Unit(device_id=moving)
    issued = await renew(clients[moving], pairs[moving], unit)
    assert isinstance(issued, Issued), issued

    closed = await close_adoption(fleet.context, name, actor=OPERATOR)

    for device_id in staying:
        await clients[device_id].wait_closed()
        assert await is_refused(fleet, pairs[device_id], device_id)
    assert set(closed.ended) == {f"prod:{device_id}" for device_id in staying}
    assert all(cut.cut_off_ms < 1000 for cut in closed.sessions)
    assert {cut.name for cut in closed.sessions} == set(closed.ended)
    # It had its certificate of ours, and had not used it yet.
    identity = Identity(domain="prod", device_id=moving)
    moved = LiveDevice(fleet=fleet, identity=identity, unit=unit, issued=issued)
    async with moved.connected() as client:
        assert isinstance(await moved.ask(StatusQuery(id=uuid4().hex), client), Status)


async def test_who_gets_onto_the_other_authoritys_list_is_cut_off(fleet: LiveFleet, name: str) -> None:
    other = OtherFleet()
    good, bad = other.device("good"), other.device("bad")
    ids = [f"r-{uuid4().hex[:8]}" for _ in range(2)]
    await open_adoption(fleet.context, other.opening(name))
    await add_leaves(fleet.context, name, [row(ids[0], good), row(ids[1], bad)], actor=OPERATOR)
    stays, goes = await connect(fleet, good, ids[0]), await connect(fleet, bad, ids[1])
    other.issuing.revoked.append(bad.certificate.serial_number)

    closed = await take_lists(fleet.context, name, other.crls, actor=OPERATOR)

    await goes.wait_closed()
    await stays.ping()
    assert closed.ended == (f"prod:{ids[1]}",)
    assert await is_refused(fleet, bad, ids[1])
    await close_adoption(fleet.context, name, actor=OPERATOR)


@pytest.mark.parametrize("by", ["serial", "fingerprint", "serial fingerprint"])
async def test_an_est_client_moves_by_simplereenroll_however_the_list_names_it(
    fleet: LiveFleet, name: str, by: str
) -> None:
    other, device_id = OtherFleet(), f"e-{uuid4().hex[:8]}"
    pair = other.device("thing-0001")
    await open_adoption(fleet.context, other.opening(name))
    await add_leaves(fleet.context, name, [row(device_id, pair, by=by)], actor=OPERATOR)

    found, key = await simplereenroll(fleet, pair)

    (common_name,) = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert common_name.value == device_id
    chain = x509.load_pem_x509_certificates(fleet.home.home.trust_chain("prod").read_bytes())
    client = await connect(fleet, Pair(key=key, certificate=found, chain=tuple(chain)), device_id)
    await client.ping()
    await uses(fleet, device_id, serial_hex(found.serial_number))
    assert await is_soon_refused(fleet, pair, device_id)
    await close_adoption(fleet.context, name, actor=OPERATOR)


async def simplereenroll(fleet: LiveFleet, pair: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Ask as RFC 7030 4.2.2 has it: the names of the certificate that TLS shows, and a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(pair.certificate.subject)
    body = base64.encodebytes(csr.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    base = f"https://localhost:{fleet.context.endpoints.https_port}"
    connector = aiohttp.TCPConnector(ssl=tls_of(fleet, pair))
    async with (
        aiohttp.ClientSession(base, connector=connector) as session,
        session.post(
            "/.well-known/est/prod/simplereenroll", data=body, headers={"Content-Type": "application/pkcs10"}
        ) as response,
    ):
        content = await response.read()
        assert response.status == HTTPStatus.OK, content
        return est_leaf(content), key


async def test_a_serial_number_alone_admits_nobody_at_the_broker_and_no_forgery_over_https(
    fleet: LiveFleet, name: str
) -> None:
    other, device_id = OtherFleet(), f"s-{uuid4().hex[:8]}"
    pair = other.device()
    await open_adoption(fleet.context, other.opening(name))
    listed = await add_leaves(fleet.context, name, [row(device_id, pair, by="serial")], actor=OPERATOR)
    assert (listed.admitted, listed.waiting) == (0, 1)
    assert await is_refused(fleet, pair, device_id)

    # Another authority that is adopted too signs the same number, for the same name.
    third = OtherFleet()
    await open_adoption(fleet.context, third.opening(f"{name}-2"))
    forged = third.device(serial=pair.certificate.serial_number)
    with pytest.raises(AssertionError, match="no device"):
        await simplereenroll(fleet, forged)

    await simplereenroll(fleet, pair)
    record = await fleet.context.store.read(load_device, Identity(domain="prod", device_id=device_id))
    assert record is not None
    assert record.current is not None
    current = await fleet.context.store.read(load_certificate, record.current)
    assert current is not None
    assert current.state is CertificateState.ACTIVE
    for one in (name, f"{name}-2"):
        await close_adoption(fleet.context, one, actor=OPERATOR)
