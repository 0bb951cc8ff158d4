"""The server's certificates are replaced while it runs: who is connected stays, what is sent is answered."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from device_agent.wire import messages
from device_agent.wire.identity import serial_hex
from device_agent.wire.replies import Status
from device_agent.wire.requests import StatusQuery
from fleet.model import Purpose, RevocationReason
from fleet.ra.own.own_renewal import renew_own
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.store.certificates import load_certificate
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import MqttClient, client_context

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]
OWN = frozenset({Purpose.SERVER, Purpose.SERVICE, Purpose.SIGNER})


@pytest.fixture(scope="module", params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("live") / "home", driver=request.param)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


def shown_by(client: MqttClient) -> str:
    """Return the serial of the server's certificate of a connection."""
    tls: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True)
    assert der is not None
    return serial_hex(x509.load_der_x509_certificate(der).serial_number)


async def shown_at(port: int, tls: ssl.SSLContext) -> str:
    """Return the serial of the certificate that a listener shows to whoever connects now."""
    client = await MqttClient.open(tls, port=port)
    found = shown_by(client)
    await client.close()
    return found


async def is_healthy(https: MqttClient) -> bool:
    """Ask over a connection that is kept, and may be older than the certificate."""
    https.writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await https.reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    await https.reader.readexactly(length)
    return head.startswith(b"HTTP/1.1 200 ")


async def test_every_session_stays_and_every_listener_shows_the_new_certificate(fleet: LiveFleet) -> None:
    device = await fleet.enrolled(f"stays-{uuid4().hex[:6]}")
    endpoints, claim = fleet.context.endpoints, fleet.home.home.public_claim("prod")
    claiming = client_context(
        trust=fleet.home.home.server_trust, certificate=claim.certificate, key=claim.key
    )
    https = await MqttClient.open(device.tls(), port=endpoints.https_port)
    async with device.connected() as mqtt, fleet.bootstrap("prod", "ab" * 32) as waiting:
        assert await is_healthy(https)
        old = shown_by(mqtt)

        await renew_own(fleet.context, OWN)

        assert isinstance(await device.ask(StatusQuery(id=uuid4().hex), mqtt), Status)
        await waiting.ping()
        assert await is_healthy(https)
        shown = {
            await shown_at(endpoints.mqtt_port, device.tls()),
            await shown_at(endpoints.mqtt_bootstrap_port, claiming),
            await shown_at(endpoints.https_port, device.tls()),
        }
    await https.close()
    assert len(shown) == 1
    assert old not in shown


async def test_requests_that_come_while_the_servers_own_client_reconnects_are_all_answered(
    fleet: LiveFleet,
) -> None:
    device = await fleet.enrolled(f"asks-{uuid4().hex[:6]}")
    async with device.connected() as client:
        assert await client.subscribe(device.topics.response) == [1]
        ids = [uuid4().hex for _ in range(40)]

        async def ask_all() -> None:
            for one in ids:
                await client.publish(device.topics.request, messages.encode(StatusQuery(id=one)))

        async with asyncio.TaskGroup() as group:
            group.create_task(renew_own(fleet.context, frozenset({Purpose.SERVICE})))
            group.create_task(ask_all())
        answered: set[str] = set()
        while answered != set(ids):
            answered.add(messages.parse_reply((await client.receive()).body).id)

    service = x509.load_pem_x509_certificate(fleet.home.home.service.certificate.read_bytes())
    serial = serial_hex(service.serial_number)

    async def own_sessions() -> set[str]:
        sessions = await fleet.context.broker.sessions()
        return {one.serial for one in sessions if one.name == "fleet-server"}

    async with asyncio.timeout(20):
        while await own_sessions() != {serial}:  # noqa: ASYNC110 - all may be answered before it comes back
            await asyncio.sleep(0.01)


async def test_a_revocation_right_after_a_renewal_still_cuts_off_at_once(fleet: LiveFleet) -> None:
    device = await fleet.enrolled(f"goes-{uuid4().hex[:6]}")
    async with device.connected() as client:
        await renew_own(fleet.context, OWN)
        receipt = await revoke(
            fleet.context,
            ByDevice(identities=(device.identity,)),
            reason=RevocationReason.KEY_COMPROMISE,
            actor="operator:test",
        )
        await client.wait_closed()

    assert receipt.verified, receipt.problem
    assert receipt.sessions[0].cut_off_ms < 1000


async def test_a_renewed_responder_signs_what_is_asked_next(fleet: LiveFleet) -> None:
    device = await fleet.enrolled(f"asked-{uuid4().hex[:6]}")
    assert device.issued is not None
    await renew_own(fleet.context, frozenset({Purpose.SIGNER}))
    record = await fleet.context.store.read(load_certificate, device.issued.serial)
    assert record is not None
    issuer = fleet.context.authority.issuer_by_id(record.issuer).certificate
    leaf = x509.load_pem_x509_certificate(device.issued.certificate.encode())
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA256()).build()
    der = request.public_bytes(Encoding.DER)

    async with fleet.http() as http, http.post("/ocsp", data=der) as response:
        answer = ocsp.load_der_ocsp_response(await response.read())

    signers = {one.serial_number for one in answer.certificates}
    renewed = {
        one.certificate.serial_number for one in fleet.context.authority.responders if one.issuer == issuer
    }
    assert signers == renewed
