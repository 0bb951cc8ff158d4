"""One fleet, two domains, one device id in both: a leaf of one is worth nothing in the other, wherever shown.

Both brokers are live, and so are EST, recovery, the operators' API and status.
"""

import base64
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from device_agent.wire import messages
from device_agent.wire.identity import Identity
from device_agent.wire.proofs import recovery_text
from device_agent.wire.replies import Issued
from device_agent.wire.requests import Proof, ProofKind, Renew, StatusQuery
from device_agent.wire.topics import EnrollTopics, OperationalTopics
from fleet.core.profile import device_applicant
from fleet.model import CertificateState, Purpose, RevocationReason
from fleet.ra.devices import Registration, register
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.ra.status.verdict_faults import Standing, Wanted
from fleet.ra.status.verdicts import verify
from fleet.store.certificates import CertificateQuery, list_certificates, load_certificate
from tests.desk import Unit
from tests.est import EstUnit, basic
from tests.homes import FleetHome
from tests.live import LiveDevice, LiveFleet, ask, live, make_live_home, post
from tests.mqtt import REFUSED_SUBSCRIPTION, ClosedError, MqttClient, NotLetInError, client_context

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]
HEADERS = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
NAME = "twin"
_NO_ENTRY = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


@dataclass(frozen=True, kw_only=True)
class Twins:
    """A device of each domain, under one id."""

    fleet: LiveFleet
    prod: LiveDevice
    lab: LiveDevice

    async def issued_in_lab(self) -> int:
        """Count what lab has on record for its twin."""
        query = CertificateQuery(domain="lab", device_id=NAME, limit=100)
        return len(await self.fleet.context.store.read(list_certificates, query))


@pytest.fixture(scope="module", params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("apart") / "home", driver=request.param)


@asynccontextmanager
async def apart(home: FleetHome, folder: Path) -> AsyncIterator[Twins]:
    async with live(home, folder) as fleet:
        yield Twins(
            fleet=fleet, prod=await fleet.enrolled(NAME), lab=await fleet.enrolled(NAME, domain="lab")
        )


async def test_a_leaf_opens_nothing_of_the_other_domain(home: FleetHome, tmp_path: Path) -> None:
    async with apart(home, tmp_path) as twins:
        before = await twins.issued_in_lab()
        await at_the_broker(twins)
        await at_est(twins)
        await at_recovery(twins)
        await at_the_operators_api(twins)
        await with_a_claim(twins, tmp_path)
        await at_status(twins)
        await in_trust_stores(twins, tmp_path)
        await at_verify(twins)
        assert await twins.issued_in_lab() == before
        await when_one_is_revoked(twins)


# --- at the broker --------------------------------------------------------------------------------


async def at_the_broker(twins: Twins) -> None:
    """Under its own name it reaches no topic of the other domain; under the other's name it is not let in."""
    async with twins.lab.connected() as neighbour, twins.prod.connected() as stray:
        assert await neighbour.subscribe("devices/lab/twin/#") == [1]
        for topic in (
            "devices/lab/twin/#",
            "devices/lab/#",
            "fleet/v1/lab/twin/#",
            twins.lab.topics.response,
        ):
            assert await stray.subscribe(topic) == [REFUSED_SUBSCRIPTION], topic
        await shouted(stray, "devices/lab/twin/hello", b"from prod")
        assert await neighbour.received() == []
    await renewing_on_the_others_topics(twins)
    for name in ("lab:twin", "twin"):
        assert not await is_let_in(twins.prod, name), name


async def shouted(client: MqttClient, topic: str, body: bytes) -> None:
    """Publish what must reach nobody; a broker may close the connection for it, or pass it over."""
    try:
        await client.publish(topic, body)
        await client.ping()
    except ClosedError:
        return


async def renewing_on_the_others_topics(twins: Twins) -> None:
    """A renewal on lab's topics, with either serial, gets no answer: no certificate comes of it."""
    for device in (twins.prod, twins.lab):
        assert device.issued is not None
        foreign = OperationalTopics(identity=twins.lab.identity, serial=device.issued.serial)
        async with twins.prod.connected() as stray:
            assert await stray.subscribe(foreign.response) == [REFUSED_SUBSCRIPTION]
            await shouted(stray, foreign.request, messages.encode(renewal()))
            with_nothing = await is_silent(stray)
        assert with_nothing


async def is_silent(client: MqttClient) -> bool:
    try:
        return await client.received() == []
    except (ClosedError, OSError):
        return True


async def is_let_in(device: LiveDevice, name: str) -> bool:
    """Tell whether the broker takes a leaf under a name, and gives it that name's topics."""
    client = await MqttClient.open(device.tls(), port=device.fleet.context.endpoints.mqtt_port)
    try:
        if await client.connect(name) != 0:
            return False
        return await client.subscribe("devices/lab/twin/#") == [1]
    except (NotLetInError, ClosedError):
        return False
    finally:
        await client.close()


def renewal() -> Renew:
    return Renew(id=str(uuid4()), csr=Unit(device_id=NAME).csr, attempt=1)


# --- at EST ---------------------------------------------------------------------------------------


async def at_est(twins: Twins) -> None:
    """Under the other's label it enrolls and renews nothing; nor does a code of the other domain."""
    async with twins.fleet.https(twins.prod) as session:
        for named, refusals in ((twins.prod, _NO_ENTRY), (twins.lab, {HTTPStatus.BAD_REQUEST, *_NO_ENTRY})):
            names = device_applicant(named.identity, fleet="acme").dns_names
            unit = EstUnit(device_id=NAME, dns_names=names)
            for operation in ("simplereenroll", "simpleenroll"):
                path = f"/.well-known/est/lab/{operation}"
                async with session.post(path, data=unit.csr, headers=HEADERS) as response:
                    assert response.status in refusals, (operation, names)
    _, proof = await twins.fleet.proof_for("newcomer", domain="prod")
    assert proof.code is not None
    login = {"Authorization": basic("newcomer", proof.code.reveal())}
    async with twins.fleet.https() as session:
        path = "/.well-known/est/lab/simpleenroll"
        body = EstUnit(device_id="newcomer").csr
        async with session.post(path, data=body, headers=HEADERS | login) as response:
            assert response.status == HTTPStatus.UNAUTHORIZED


# --- at recovery, and over HTTPS ------------------------------------------------------------------


async def at_recovery(twins: Twins) -> None:
    """A signature made for the other domain counts for nothing, whichever certificate comes with it."""
    query = StatusQuery(id=str(uuid4()))
    own = await recovered(twins, twins.prod, query, domain="prod")
    assert own["type"] == "status", own
    assert (await recovered(twins, twins.prod, query, domain="lab"))["code"] == "not-allowed"
    stolen = LiveDevice(
        fleet=twins.fleet, identity=twins.lab.identity, unit=twins.prod.unit, issued=twins.lab.issued
    )
    assert (await recovered(twins, stolen, renewal(), domain="lab"))["code"] == "not-allowed"


async def recovered(
    twins: Twins, device: LiveDevice, request: messages.Request, *, domain: str
) -> dict[str, object]:
    assert device.issued is not None
    body = messages.encode(request)
    async with twins.fleet.https() as session:
        async with session.get("/api/v1/nonce") as response:
            nonce = (await response.json())["nonce"]
        text = recovery_text(fleet="acme", domain=domain, nonce=nonce, request=body)
        signature = device.unit.key.sign(text, ec.ECDSA(hashes.SHA256()))
        proof = {
            "request": base64.b64encode(body).decode(),
            "certificate": device.issued.certificate,
            "nonce": nonce,
            "signature": base64.b64encode(signature).decode(),
        }
        _, found = await post(session, "/api/v1/recover", json.dumps(proof).encode())
    return found


async def at_the_operators_api(twins: Twins) -> None:
    """A device of any domain is no operator."""
    for device in (twins.prod, twins.lab):
        async with twins.fleet.https(device) as session, session.get("/api/v1/devices") as response:
            assert response.status in _NO_ENTRY


async def with_a_claim(twins: Twins, folder: Path) -> None:
    """A claim certificate of lab enrolls no device that is registered in prod."""
    await register(
        twins.fleet.context,
        Registration(identity=Identity(domain="prod", device_id="claimed"), batch="line3"),
        actor="operator:test",
    )
    order = BatchOrder(domain="lab", name="line3", uses=5, lifetime=timedelta(days=1), actor="operator:test")
    own = (await create_batch(twins.fleet.context, order)).own
    certificate, key = folder / "claim.crt", folder / "claim.key"
    certificate.write_text(own.certificate_pem)
    key.write_bytes(own.key_pem)
    tls = client_context(trust=twins.fleet.home.home.server_trust, certificate=certificate, key=key)
    unit = Unit(device_id="claimed")
    client = await MqttClient.open(tls, port=twins.fleet.context.endpoints.mqtt_bootstrap_port)
    try:
        assert await client.connect(unit.key_hash) == 0
        body = messages.encode(unit.enroll(Proof(kind=ProofKind.CLAIM)))
        reply = await ask(client, EnrollTopics(client=unit.key_hash), body)
    finally:
        await client.close()
    assert not isinstance(reply, Issued), reply


# --- status and trust -----------------------------------------------------------------------------


async def at_status(twins: Twins) -> None:
    """Lab's authority knows nothing of prod's leaves."""
    assert await ocsp_status(twins, twins.prod, issuer_domain="prod") is ocsp.OCSPCertStatus.GOOD
    assert await ocsp_status(twins, twins.prod, issuer_domain="lab") is ocsp.OCSPCertStatus.UNKNOWN


async def ocsp_status(twins: Twins, device: LiveDevice, *, issuer_domain: str) -> ocsp.OCSPCertStatus:
    """Ask whoever speaks for a domain's issuing CA about a serial, whoever it is of (RFC 6960 4.1.1)."""
    issuer = twins.fleet.context.authority.issuer(Purpose.DEVICE, issuer_domain).certificate
    key = issuer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    question = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        sha256(issuer.subject.public_bytes()).digest(),
        sha256(key).digest(),
        leaf_of(device).serial_number,
        hashes.SHA256(),
    )
    body = question.build().public_bytes(Encoding.DER)
    headers = {"Content-Type": "application/ocsp-request"}
    async with twins.fleet.http() as session, session.post("/ocsp", data=body, headers=headers) as response:
        answer = ocsp.load_der_ocsp_response(await response.read())
    assert answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    return answer.certificate_status


def leaf_of(device: LiveDevice) -> x509.Certificate:
    assert device.issued is not None
    return x509.load_pem_x509_certificate(device.issued.certificate.encode())


async def in_trust_stores(twins: Twins, folder: Path) -> None:
    """A relying party of lab verifies no leaf of prod, even with every issuing CA at hand."""
    authority, trust = twins.fleet.context.authority, twins.fleet.home.home
    everything = folder / "all-issuing.pem"
    everything.write_text("".join(issuer.chain_pem for issuer in authority.issuers))
    for device, good, bad in ((twins.prod, "prod", "lab"), (twins.lab, "lab", "prod")):
        certificate, _ = device.files()
        for domain, is_good in ((good, True), (bad, False)):
            command = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-purpose", "sslclient"]
            command += ["-CAfile", str(trust.trust_root(domain)), "-untrusted", str(everything)]
            ended = subprocess.run([*command, str(certificate)], capture_output=True, check=False)
            assert (ended.returncode == 0) is is_good, (device.identity, domain)


async def at_verify(twins: Twins) -> None:
    assert twins.prod.issued is not None
    for domain, standing in (("prod", Standing.GOOD), ("lab", Standing.WRONG_DOMAIN)):
        found = await verify(twins.fleet.context, twins.prod.issued.certificate, Wanted(domain=domain))
        assert found.standing is standing


async def when_one_is_revoked(twins: Twins) -> None:
    """The end of one twin is nothing to the other: it stays connected, admitted, good, and on no list."""
    assert twins.lab.issued is not None
    async with twins.lab.connected() as neighbour:
        await revoke(
            twins.fleet.context,
            ByDevice(identities=(twins.prod.identity,)),
            reason=RevocationReason.KEY_COMPROMISE,
            actor="operator:test",
        )
        await neighbour.ping()
    row = await twins.fleet.context.store.read(load_certificate, twins.lab.issued.serial)
    assert row is not None
    assert row.state is CertificateState.ACTIVE
    assert await ocsp_status(twins, twins.prod, issuer_domain="prod") is ocsp.OCSPCertStatus.REVOKED
    assert await ocsp_status(twins, twins.lab, issuer_domain="lab") is ocsp.OCSPCertStatus.GOOD
    assert await listed(twins, "prod")
    assert not await listed(twins, "lab")


async def listed(twins: Twins, domain: str) -> bool:
    """Tell whether the list of a domain's issuing CA names the prod twin."""
    issuer = twins.fleet.context.authority.issuer(Purpose.DEVICE, domain).issuer_id
    async with twins.fleet.http() as session, session.get(f"/crl/{issuer}.crl") as response:
        crl = x509.load_der_x509_crl(await response.read())
    return crl.get_revoked_certificate_by_serial_number(leaf_of(twins.prod).serial_number) is not None
