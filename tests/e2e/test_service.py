"""The whole service on each broker: devices over real MQTT and HTTPS, relying parties over plain HTTP."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from device_agent.wire import messages
from device_agent.wire.identity import Identity
from device_agent.wire.proofs import recovery_text
from device_agent.wire.replies import (
    Confirmed,
    DoneAck,
    Issued,
    Pending,
    Problem,
    ReportedState,
    Status,
    Time,
)
from device_agent.wire.requests import Confirm, Done, Proof, ProofKind, Renew, StatusQuery, TimeQuery
from device_agent.wire.topics import EnrollTopics
from fleet.model import RevocationReason
from fleet.ra.devices import Registration, register
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from tests.desk import Unit
from tests.homes import FleetHome
from tests.live import LiveDevice, LiveFleet, ask, live, make_live_home, post
from tests.mqtt import MqttClient, NotLetInError, client_context

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]


@pytest.fixture(scope="module", params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("live") / "home", driver=request.param)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


def new_id() -> str:
    return uuid4().hex


def renewal(unit: Unit, *, attempt: int = 1) -> Renew:
    return Renew(id=new_id(), csr=unit.csr, attempt=attempt)


async def test_a_device_enrolls_confirms_rotates_and_says_done(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("rotates")
    fresh = LiveDevice(fleet=fleet, identity=device.identity, unit=Unit(device_id="rotates"))

    async with device.connected() as old:
        reply = await device.ask(renewal(fresh.unit), old)
        assert isinstance(reply, Issued), reply
        fresh.issued = reply
        await old.disconnect()
    async with fresh.connected() as client:
        confirmed = await fresh.ask(Confirm(id=new_id()), client)
        done = await fresh.ask(Done(id=new_id()), client)
        status = await fresh.ask(StatusQuery(id=new_id()), client)

    assert isinstance(confirmed, Confirmed)
    assert isinstance(done, DoneAck)
    assert isinstance(status, Status)
    assert status.state is ReportedState.ACTIVE
    assert await is_refused(device)


async def is_refused(device: LiveDevice) -> bool:
    """Tell whether the broker refuses the certificate, in TLS or in CONNACK."""
    try:
        client = await MqttClient.open(device.tls(), port=device.fleet.context.endpoints.mqtt_port)
        code = await client.connect(device.identity.name)
        await client.close()
    except NotLetInError:
        return True
    return code != 0


async def test_a_revoked_device_is_cut_off_and_stays_out(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("revoked")

    async with device.connected() as client:
        receipt = await revoke(
            fleet.context,
            ByDevice(identities=(device.identity,)),
            reason=RevocationReason.KEY_COMPROMISE,
            actor="operator:test",
        )
        await client.wait_closed()

    assert receipt.verified, receipt.problem
    assert [cut.name for cut in receipt.sessions] == [device.identity.name]
    assert receipt.sessions[0].cut_off_ms < 1000
    assert await is_refused(device)
    assert await ocsp_status(fleet, device) is ocsp.OCSPCertStatus.REVOKED
    assert device.issued is not None
    assert int(device.issued.serial, 16) in await crl_serials(fleet, device)


async def ocsp_status(fleet: LiveFleet, device: LiveDevice) -> ocsp.OCSPCertStatus:
    assert device.issued is not None
    leaf = x509.load_pem_x509_certificate(device.issued.certificate.encode())
    issuer = x509.load_pem_x509_certificate(device.issued.chain.encode())
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA256()).build()
    der = request.public_bytes(Encoding.DER)
    async with fleet.http() as session:
        async with session.post("/ocsp", data=der) as response:
            by_post = ocsp.load_der_ocsp_response(await response.read())
        async with session.get("/ocsp/" + base64.b64encode(der).decode().replace("+", "%2B")) as response:
            by_get = ocsp.load_der_ocsp_response(await response.read())
    assert by_post.certificate_status is by_get.certificate_status
    return by_post.certificate_status


async def crl_serials(fleet: LiveFleet, device: LiveDevice) -> set[int]:
    assert device.issued is not None
    leaf = x509.load_pem_x509_certificate(device.issued.certificate.encode())
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    name = points[0].full_name
    assert name is not None
    path = "/crl/" + str(name[0].value).rsplit("/", 1)[1]
    async with fleet.http() as session, session.get(path) as response:
        assert response.status == HTTPStatus.OK
        return {entry.serial_number for entry in x509.load_der_x509_crl(await response.read())}


async def test_a_good_certificate_is_good_to_relying_parties(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("good")

    assert await ocsp_status(fleet, device) is ocsp.OCSPCertStatus.GOOD


async def test_the_time_is_signed_for_the_nonce_that_was_asked(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("asks-time")

    async with device.connected() as client:
        reply = await device.ask(TimeQuery(id=new_id(), nonce=b"n" * 16), client)

    assert isinstance(reply, Time)
    assert reply.nonce == b"n" * 16


BODIES = [
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b"null",
    b'{"v":1}',
    b'{"v":2,"id":"x","type":"confirm"}',
    b'{"v":1,"id":"x","type":"dance"}',
    b'{"v":1,"id":"x","type":"enroll"}',
    b'{"v":1,"id":"x","type":"renew","csr":"-----BEGIN CERTIFICATE REQUEST-----\\nAAAA"}',
    json.dumps({"v": 1, "id": "x", "type": "renew", "csr": "a" * 70_000}).encode(),
    json.dumps({"v": 1, "id": "x" * 70_000, "type": "confirm"}).encode(),
    b'{"v":1,"id":"x","type":"confirm","id":"y"}',
    b"[" * 60_000,
]


async def test_every_malformed_body_gets_a_problem_and_the_service_goes_on(fleet: LiveFleet) -> None:
    device, key_hash = await fleet.enrolled("hostile"), "0" * 64

    async with (
        fleet.bootstrap("prod", key_hash) as boot,
        device.connected() as client,
        fleet.https() as session,
    ):
        for body in BODIES:
            over_mqtt = [
                await ask(boot, EnrollTopics(client=key_hash), body),
                await ask(client, device.topics, body),
            ]
            over_https = [
                await post(session, "/api/v1/enroll", body),
                await post(session, "/api/v1/recover", body),
            ]
            assert all(isinstance(reply, Problem) for reply in over_mqtt), body[:80]
            for status, found in over_https:
                assert HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR, body[:80]
                assert found["status"] == status
        alive = await device.ask(StatusQuery(id=new_id()), client)

    assert isinstance(alive, Status)


async def test_over_https_a_device_renews_with_its_own_certificate(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("by-https")
    fresh = Unit(device_id="by-https")

    async with fleet.https(device) as session:
        status, found = await post(session, "/api/v1/renew", messages.encode(renewal(fresh)))
    async with fleet.https() as session:
        nobody, _ = await post(session, "/api/v1/renew", messages.encode(renewal(Unit())))

    assert status == HTTPStatus.OK, found
    assert found["type"] == "issued"
    assert nobody == HTTPStatus.FORBIDDEN


async def recover(fleet: LiveFleet, device: LiveDevice, request: messages.Request) -> dict[str, object]:
    """Ask at the recovery listener, with a fresh signature by the device's key."""
    assert device.issued is not None
    body = messages.encode(request)
    async with fleet.https() as session:
        async with session.get("/api/v1/nonce") as response:
            nonce = (await response.json())["nonce"]
        text = recovery_text(fleet="acme", domain="prod", nonce=nonce, request=body)
        proof = {
            "request": base64.b64encode(body).decode(),
            "certificate": device.issued.certificate,
            "nonce": nonce,
            "signature": base64.b64encode(device.unit.key.sign(text, ec.ECDSA(hashes.SHA256()))).decode(),
        }
        status, found = await post(session, "/api/v1/recover", json.dumps(proof).encode())
        again, _ = await post(session, "/api/v1/recover", json.dumps(proof).encode())
    assert again != HTTPStatus.OK, "a nonce served twice"
    return found | {"status": status}


async def test_at_recovery_a_signature_by_the_old_key_is_heard_once(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("recovers")

    found = await recover(fleet, device, StatusQuery(id=new_id()))

    assert found["type"] == "status", found
    assert found["state"] == "active"


async def test_at_recovery_a_signature_by_another_key_is_refused(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("robbed")
    thief = replace(device, unit=Unit(device_id="robbed"))

    found = await recover(fleet, thief, StatusQuery(id=new_id()))

    assert found["code"] == "not-allowed"


async def test_a_neighbours_topic_is_closed(fleet: LiveFleet) -> None:
    device, neighbour = await fleet.enrolled("mine"), await fleet.enrolled("yours")

    async with device.connected() as client:
        assert await client.subscribe(neighbour.topics.response) != [1]


async def test_an_answer_to_another_client_is_not_to_be_had(fleet: LiveFleet) -> None:
    async with fleet.bootstrap("prod", "1" * 64) as client:
        assert await client.subscribe(EnrollTopics(client="2" * 64).response) != [1]


async def test_health_is_told_over_https_and_the_socket(fleet: LiveFleet) -> None:
    async with fleet.https() as session, session.get("/readyz") as response:
        assert response.status == HTTPStatus.OK
    async with fleet.admin() as session, session.get("/healthz") as response:
        assert response.status == HTTPStatus.OK
    assert fleet.service.admin_socket.stat().st_mode & 0o777 == 0o600


async def test_the_ports_stand_in_the_home_while_the_service_runs(home: FleetHome, tmp_path: Path) -> None:
    async with live(home, tmp_path) as running:
        found = json.loads(home.home.endpoints.read_text())

    assert found["https"] == {"host": "localhost", "port": running.context.endpoints.https_port}
    assert set(found) == {"mqtt", "mqtt_bootstrap", "https", "http"}
    assert not home.home.endpoints.exists()


async def test_a_claim_certificate_enrolls_its_batch_and_no_other_id(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    order = BatchOrder(
        domain="prod", name="line3", uses=2, lifetime=timedelta(days=30), actor="operator:test"
    )
    own = (await create_batch(fleet.context, order)).own
    certificate, key = tmp_path / "claim.crt", tmp_path / "claim.key"
    certificate.write_text(own.certificate_pem)
    key.write_bytes(own.key_pem)
    identity = Identity(domain="prod", device_id="line3-1")
    registration = Registration(identity=identity, batch="line3")
    await register(fleet.context, registration, actor="operator:test")
    claim = Proof(kind=ProofKind.CLAIM)

    replies = []
    for unit in (Unit(device_id="line3-1"), Unit(device_id="stranger")):
        tls = client_context(trust=fleet.home.home.server_trust, certificate=certificate, key=key)
        client = await MqttClient.open(tls, port=fleet.context.endpoints.mqtt_bootstrap_port)
        assert await client.connect(unit.key_hash) == 0
        body = messages.encode(unit.enroll(claim))
        replies.append(await ask(client, EnrollTopics(client=unit.key_hash), body))
        await client.close()

    assert isinstance(replies[0], Issued), replies[0]
    assert isinstance(replies[1], Pending), replies[1]


async def test_a_station_of_this_home_enrolls_over_the_socket(fleet: LiveFleet) -> None:
    unit = Unit(device_id="unit-7")
    body = messages.encode(unit.enroll(Proof(kind=ProofKind.STATION)))
    headers = {"X-Fleet-Station": "local"}

    async with fleet.admin() as session:
        async with session.post("/api/v1/enroll", data=body, headers=headers) as response:
            issued = await response.json(content_type=None)
        confirm = messages.encode(Confirm(id=new_id()))
        path = f"/api/v1/confirm?serial={issued['serial']}"
        async with session.post(path, data=confirm, headers=headers) as response:
            confirmed = await response.json(content_type=None)

    assert issued["type"] == "issued"
    assert confirmed["type"] == "confirmed"


async def test_nobody_says_over_https_that_he_is_a_station(fleet: LiveFleet) -> None:
    body = messages.encode(Unit(device_id="unit-8").enroll(Proof(kind=ProofKind.STATION)))

    async with (
        fleet.https() as session,
        session.post("/api/v1/enroll", data=body, headers={"X-Fleet-Station": "local"}) as response,
    ):
        assert response.status == HTTPStatus.FORBIDDEN
