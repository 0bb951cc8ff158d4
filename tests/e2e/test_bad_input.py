"""Bad requests on every channel of one live server: each is answered, nothing is dropped, and nobody gets a
certificate that he may not have. Codes, tokens and ids that are used by two at once are had by one."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity
from device_agent.wire.replies import Issued, Problem, Reply
from device_agent.wire.secret import Secret
from device_agent.wire.topics import EnrollTopics
from fleet.channels.mqtt import _WORKERS
from fleet.ra.context import Asker, Context
from fleet.ra.people.claims import CodeOrder, create_codes
from fleet.ra.requests.answer import answer_body
from fleet.ra.requests.templates import add
from fleet.station.keeping.ledger import Ledger
from fleet.station.link import steps
from fleet.station.link.pace import Pace
from fleet.station.link.session import Session
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.way import AdminSocket
from fleet.store import allowlist
from tests.aws import Claim, claim_for
from tests.bad_csrs import OTHER_DEVICE, Sample, owned_key, require_rightful, samples
from tests.desk import Unit
from tests.est import basic, leaf
from tests.factory_floor import MemoryUnit, Wire, counted_randomness, run_session
from tests.homes import FleetHome, utc_now
from tests.live import LiveFleet, ask, live, make_live_home
from tests.mqtt import MqttClient, client_context

NO_ASCII = (
    b'{"v": 1, "id": "1", "type": "enroll", "device_id": "d1", "csr": "-----BEGIN ", "proof": {'
    b'"kind": "tpm", "nonce": "0", "tpm": {"ek_public": "\xc3\xa9"}}}'
)
"""Where base64 should stand is what is not even ASCII."""
Answer = x509.Certificate | None
"""The certificate that was issued, or None for a refusal that says so."""
Channel = Callable[[Sample, str], Awaitable[Answer]]
REFUSALS = {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
CREATE = "$aws/certificates/create-from-csr/json"
REGISTER = "$aws/provisioning-templates/any/provision/json"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("bad") / "home", driver="embedded")
    config = made.home.config
    config.write_text(config.read_text() + "[policy]\nrecover_per_minute = 60000\n")
    return made


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        await add(running.context, "any", text='domain = "prod"', actor="operator:test")
        yield running


@dataclass(kw_only=True)
class Codes:
    """A fresh code for each sample's device."""

    fleet: LiveFleet
    given: dict[str, Secret] = field(default_factory=dict)

    async def of(self, *device_ids: str) -> None:
        identities = tuple(Identity(domain="prod", device_id=one) for one in device_ids)
        order = CodeOrder(identities=identities, actor="operator:test", lifetime=timedelta(days=1))
        self.given |= {
            new.identity.device_id: new.code for new in await create_codes(self.fleet.context, order)
        }


async def over_est(fleet: LiveFleet, codes: Codes, stack: AsyncExitStack) -> Channel:
    session = await stack.enter_async_context(fleet.https())

    async def send(sample: Sample, device_id: str) -> Answer:
        code = codes.given[device_id].reveal()
        status, body = await post(session, base64.b64encode(sample.csr), device_id, code)
        if status is HTTPStatus.OK:
            return leaf(body)
        assert status in REFUSALS, (sample.name, status, body)
        assert 0 < len(body) < 300
        return None

    return send


async def post(
    session: aiohttp.ClientSession, body: bytes, device_id: str, code: str
) -> tuple[HTTPStatus, bytes]:
    login = {"Content-Type": "application/pkcs10", "Authorization": basic(device_id, code)}
    async with session.post("/.well-known/est/prod/simpleenroll", data=body, headers=login) as response:
        return HTTPStatus(response.status), await response.read()


async def over_mqtt(fleet: LiveFleet, codes: Codes, _stack: AsyncExitStack) -> Channel:
    async def send(sample: Sample, device_id: str) -> Answer:
        # The client id is the key's digest, so that a request that has a key comes as far as any.
        client_id = hashlib.sha256(owned_key(sample.csr) or sample.csr + device_id.encode()).hexdigest()
        proof = {"kind": "code", "code": codes.given[device_id].reveal()}
        body = {
            "v": 1,
            "id": "1",
            "type": "enroll",
            "device_id": device_id,
            "csr": sample.pem,
            "proof": proof,
        }
        async with fleet.bootstrap("prod", client_id) as client:
            reply = await ask(client, EnrollTopics(client=client_id), json.dumps(body).encode())
        if isinstance(reply, Issued):
            return x509.load_pem_x509_certificate(reply.certificate.encode())
        assert isinstance(reply, Problem), (sample.name, reply)
        return None

    return send


async def over_aws(fleet: LiveFleet, codes: Codes, stack: AsyncExitStack) -> Channel:
    claim = await claim_for(fleet, "aws", *codes.given)
    client = await aws_client(fleet, claim, "sdk-1")
    stack.push_async_callback(client.close)

    async def send(sample: Sample, device_id: str) -> Answer:
        found = await call(client, CREATE, {"certificateSigningRequest": sample.pem})
        if "certificatePem" not in found:
            assert found.keys() == {"statusCode", "errorCode", "errorMessage"}, (sample.name, found)
            return None
        return x509.load_pem_x509_certificate(found["certificatePem"].encode())

    return send


async def aws_client(fleet: LiveFleet, claim: Claim, client_id: str) -> MqttClient:
    tls = client_context(trust=claim.trust, certificate=claim.certificate, key=claim.key)
    client = await MqttClient.open(tls, port=fleet.context.endpoints.mqtt_bootstrap_port)
    assert await client.connect(client_id) == 0
    for topic in (CREATE, REGISTER):
        await client.subscribe(f"{topic}/accepted", f"{topic}/rejected")
    return client


async def call(client: MqttClient, topic: str, body: dict[str, object] | bytes) -> dict[str, str]:
    await client.publish(topic, body if isinstance(body, bytes) else json.dumps(body).encode())
    answer = await client.receive()
    found: dict[str, str] = json.loads(answer.body)
    assert answer.topic == f"{topic}/{'rejected' if 'errorCode' in found else 'accepted'}"
    return found


@dataclass
class BadUnit(MemoryUnit):
    """A unit at the factory line that has this to ask."""

    csr: bytes = b""

    def request(self, device_id: str) -> bytes:
        super().request(device_id)
        return self.csr


async def over_serial(fleet: LiveFleet, _codes: Codes, stack: AsyncExitStack) -> Channel:
    files = fleet.home.home.station("local")
    identity = StationIdentity.load(files.certificate, files.key)
    ledger = await stack.enter_async_context(
        Ledger.opened(fleet.folder / "ledger.db", clock=utc_now, identity=identity)
    )
    trust = x509.load_pem_x509_certificates(fleet.home.home.server_trust.read_bytes())
    servers = tuple(one.public_bytes(Encoding.DER) for one in trust)
    server = AdminSocket(path=fleet.home.home.admin_socket, station="local")
    enroller = await stack.enter_async_context(HttpEnroller.opened(server, servers=servers))
    clerk = Clerk(ledger=ledger, enroller=enroller, ids=IdRule(prefix="unit-"))
    randomness = counted_randomness()

    async def send(sample: Sample, device_id: str) -> Answer:
        unit = BadUnit(hardware_id=f"hw-{device_id}", device_id=device_id, csr=sample.csr, anchors=servers)
        session = Session(identity=identity, pace=Pace(baud=115200), randomness=randomness)
        end = await run_session(session, Wire(unit), clerk.decide)
        assert end.step in {steps.Step.FAILED, steps.Step.HELD, steps.Step.QUARANTINED}, (sample.name, end)
        assert end.detail
        assert unit.commits == 0
        row = await ledger.find(unit.hardware_id)
        package = row.generations[-1].package if row and row.generations else None
        return None if package is None else x509.load_der_x509_certificate(package.leaf)

    return send


CHANNELS = {"est": over_est, "mqtt": over_mqtt, "aws": over_aws, "serial": over_serial}


@pytest.mark.parametrize("name", list(CHANNELS))
async def test_every_bad_request_is_answered_and_none_gets_what_it_may_not_have(
    fleet: LiveFleet, name: str
) -> None:
    codes = Codes(fleet=fleet)
    who = {sample: f"{name}-{number}" for number, sample in enumerate(samples())}
    # A station takes in units that nobody has registered, and those alone.
    await codes.of(*(who.values() if name != "serial" else ()), OTHER_DEVICE)
    async with AsyncExitStack() as stack:
        send = await CHANNELS[name](fleet, codes, stack)
        for sample, device_id in who.items():
            certificate = await send(sample, device_id)
            if certificate is not None:
                require_rightful(certificate, sample, device_id=device_id)
    listed = await fleet.context.store.read(allowlist.snapshot, None)
    assert OTHER_DEVICE not in {entry.name.partition(":")[2] for entry in listed.entries}


# What is replayed, or used by two at once.


async def test_of_many_keys_that_come_with_one_code_at_once_exactly_one_is_certified(
    fleet: LiveFleet,
) -> None:
    codes = Codes(fleet=fleet)
    await codes.of("racer")
    units = [Unit(device_id="racer") for _ in range(6)]
    async with AsyncExitStack() as stack:
        est = await over_est(fleet, codes, stack)
        mqtt = await over_mqtt(fleet, codes, stack)
        ways = [est, mqtt] * 3

        async def run(way: Channel, unit: Unit) -> bool:
            return await way(Sample(name=unit.key_hash, csr=der_of(unit)), "racer") is not None

        won = await asyncio.gather(*(run(way, unit) for way, unit in zip(ways, units, strict=True)))

    assert won.count(True) == 1
    assert await admitted(fleet, "prod:racer") == 1


async def test_of_many_that_show_one_token_at_once_exactly_one_registers(fleet: LiveFleet) -> None:
    claim = await claim_for(fleet, "tokens", "thing-1")
    async with AsyncExitStack() as stack:
        clients = [await aws_client(fleet, claim, f"sdk-{number}") for number in range(5)]
        for client in clients:
            stack.push_async_callback(client.close)
        made = await call(clients[0], CREATE, {"certificateSigningRequest": Unit(device_id="thing-1").csr})
        body = {"certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {}}
        found = await asyncio.gather(*(call(client, REGISTER, body) for client in clients))
        replayed = await call(clients[0], REGISTER, body)

    refusals = [one["errorCode"] for one in [*found, replayed] if "errorCode" in one]
    assert [one["thingName"] for one in found if "thingName" in one] == ["prod:thing-1"]
    assert refusals == ["InvalidCertificateOwnershipToken"] * 5
    assert await admitted(fleet, "prod:thing-1") == 1


async def test_of_many_keys_for_one_id_of_a_claim_exactly_one_is_registered(fleet: LiveFleet) -> None:
    claim = await claim_for(fleet, "ids", "thing-2")
    async with AsyncExitStack() as stack:
        clients = [await aws_client(fleet, claim, f"sdk-{number}") for number in range(5)]
        for client in clients:
            stack.push_async_callback(client.close)

        async def enroll(client: MqttClient) -> dict[str, str]:
            made = await call(client, CREATE, {"certificateSigningRequest": Unit(device_id="thing-2").csr})
            token = made["certificateOwnershipToken"]
            return await call(client, REGISTER, {"certificateOwnershipToken": token, "parameters": {}})

        found = await asyncio.gather(*(enroll(client) for client in clients))

    assert sorted(one.get("errorCode", "") for one in found) == ["", *["AccessDenied"] * 4]
    assert await admitted(fleet, "prod:thing-2") == 1


def der_of(unit: Unit) -> bytes:
    return x509.load_pem_x509_csr(unit.csr.encode()).public_bytes(Encoding.DER)


async def admitted(fleet: LiveFleet, name: str) -> int:
    listed = await fleet.context.store.read(allowlist.snapshot, None)
    return sum(entry.name == name for entry in listed.entries)


# What is no request at all.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00" * 100,
        b"[]",
        b'"text"',
        b"{",
        b'{"a":' * 5000,
        b'{"certificateSigningRequest": null}',
        b'{"certificateSigningRequest": ["a"]}',
        b'{"certificateOwnershipToken": "x", "parameters": "y"}',
        b'{"certificateOwnershipToken": 1e999}',
        b'{"v": 1, "id": "1", "type": "enroll"}',
        b'{"v": 99, "id": "1", "type": "enroll"}',
        b'{"v": 1, "id": "1", "type": "become-root"}',
        NO_ASCII,
        b"\xff" * 70_000,
    ],
    ids=lambda body: str(body[:32]),
)
async def test_a_body_that_is_none_is_refused_on_every_topic_and_the_connection_lives(
    fleet: LiveFleet, body: bytes
) -> None:
    home = fleet.home.home
    public = home.public_claim("prod")
    claim = Claim(certificate=public.certificate, key=public.key, trust=home.server_trust)
    client = await aws_client(fleet, claim, "sdk-1")
    refused = [(await call(client, topic, body))["statusCode"] for topic in (CREATE, REGISTER)]
    await client.close()
    digest = hashlib.sha256(body).hexdigest()
    async with fleet.bootstrap("prod", digest) as own:
        problem = await ask(own, EnrollTopics(client=digest), body)
        again = await ask(own, EnrollTopics(client=digest), body)

    assert refused == [400, 400]
    assert isinstance(problem, Problem)
    assert isinstance(again, Problem)


async def test_a_defect_over_one_message_leaves_the_others_answered(
    fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(context: Context, asker: Asker, body: bytes) -> Reply:
        if body == b"{}":
            raise ValueError("a defect")
        return await answer_body(context, asker, body)

    monkeypatch.setattr("fleet.channels.translate.answer_body", breaks)
    own_topics = EnrollTopics(client="ab" * 32)
    async with fleet.bootstrap("prod", own_topics.client) as own:
        for _ in range(_WORKERS):  # each that serves takes one
            await own.publish(own_topics.request, b"{}")
        assert isinstance(await ask(own, own_topics, b"[]"), Problem)


@pytest.mark.parametrize("noise", ["!", "\x00", "=", "-----BEGIN CERTIFICATE REQUEST-----", "\u00e4"])
async def test_base64_with_noise_in_it_is_no_request(fleet: LiveFleet, noise: str) -> None:
    codes = Codes(fleet=fleet)
    device_id = f"noise-{ord(noise[0])}"
    await codes.of(device_id)
    pem = Unit(device_id=device_id).csr
    spoilt = pem[:100] + noise + pem[100:]
    claim = await claim_for(fleet, f"noise{ord(noise[0])}")
    client = await aws_client(fleet, claim, "sdk-1")
    over_aws_said = await call(client, CREATE, {"certificateSigningRequest": spoilt})
    await client.close()
    async with fleet.https() as session:
        body = "".join(spoilt.splitlines()[1:-1]).encode()
        status, _ = await post(session, body, device_id, codes.given[device_id].reveal())

    assert over_aws_said["errorCode"] == "InvalidCertificateSigningRequest"
    assert status is HTTPStatus.BAD_REQUEST
