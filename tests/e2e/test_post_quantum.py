"""A post-quantum domain: certified from root to leaf over EST, and told where that is of no use today."""

import base64
import hashlib
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID
from cryptography.x509.verification import PolicyBuilder, Store

from device_agent.core.csr import csr_pem
from device_agent.wire import messages
from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Problem
from device_agent.wire.requests import Enroll
from device_agent.wire.topics import EnrollTopics
from fleet.core.goodkey import KeyType, PostQuantumKey, certified_key
from fleet.errors import BadInputError
from fleet.model import Purpose
from fleet.ra.authority.initialise import Plan
from fleet.ra.status.verdict_faults import Wanted
from fleet.ra.status.verdicts import verify
from fleet.store.certificates import load_certificate
from tests.est import EstUnit, basic, certificates, leaf
from tests.homes import FleetHome, make_home
from tests.live import LiveFleet, ask, configure, live

FIRST_WITH_ML_DSA = (3, 5)
"""The OpenSSL that reads and signs with ML-DSA."""
LAB = Identity(domain="lab", device_id="q1")
DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]


@dataclass(kw_only=True)
class QuantumUnit:
    """A device with an ML-DSA key."""

    key: mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey

    @property
    def csr(self) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, LAB.device_id)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.key, None)
        return request.public_bytes(Encoding.DER)

    @property
    def key_hash(self) -> str:
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).hexdigest()

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="module", params=["embedded"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    plan = Plan(
        fleet="acme", domains=("prod", "lab"), hosts=("localhost",), ca_keys={"lab": KeyType.ML_DSA_44}
    )
    made = make_home(tmp_path_factory.mktemp("pq") / "home", plan=plan)
    configure(made.home.config, driver=request.param)
    text = made.home.config.read_text()
    made.home.config.write_text(text.replace("[domains.lab]", '[domains.lab]\nca_key = "ml-dsa-44"'))
    return made


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def asked(fleet: LiveFleet, csr: bytes) -> tuple[HTTPStatus, bytes]:
    """Ask for a first certificate of the device over EST, with a fresh code."""
    _, proof = await fleet.proof_for(LAB.device_id, domain="lab")
    assert proof.code is not None
    headers = {
        "Content-Type": "application/pkcs10",
        "Authorization": basic(LAB.device_id, proof.code.reveal()),
    }
    async with (
        fleet.https() as session,
        session.post("/.well-known/est/lab/simpleenroll", data=csr, headers=headers) as response,
    ):
        return HTTPStatus(response.status), await response.read()


async def enrolled(fleet: LiveFleet, unit: QuantumUnit) -> x509.Certificate:
    status, body = await asked(fleet, base64.encodebytes(unit.csr))
    assert status is HTTPStatus.OK, body
    return leaf(body)


async def test_a_configuration_that_does_not_fit_the_authorities_does_not_start(
    home: FleetHome, tmp_path: Path
) -> None:
    text = home.home.config.read_text()
    home.home.config.write_text(text.replace('ca_key = "ml-dsa-44"', ""))
    try:
        with pytest.raises(BadInputError, match="its CA is of another kind"):
            async with live(home, tmp_path):
                pass
    finally:
        home.home.config.write_text(text)


@pytest.mark.parametrize("key", [mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey])
async def test_a_post_quantum_request_gets_a_chain_that_verifies(
    fleet: LiveFleet, key: type[mldsa.MLDSA44PrivateKey] | type[mldsa.MLDSA65PrivateKey]
) -> None:
    unit = QuantumUnit(key=key.generate())
    held = await enrolled(fleet, unit)

    assert held.public_key() == unit.key.public_key()
    assert held.signature_algorithm_oid == SignatureAlgorithmOID.ML_DSA_44
    async with fleet.https() as session, session.get("/.well-known/est/lab/cacerts") as response:
        above = certificates(await response.read())
    root = fleet.context.authority.root("lab").certificate
    verifier = PolicyBuilder().store(Store([root])).build_client_verifier()
    assert len(verifier.verify(held, above).chain) == 3
    verdict = await verify(fleet.context, held.public_bytes(Encoding.PEM).decode(), Wanted())
    assert verdict.good, verdict.why


async def test_its_status_is_told_under_post_quantum_signatures(fleet: LiveFleet) -> None:
    held = await enrolled(fleet, QuantumUnit(key=mldsa.MLDSA65PrivateKey.generate()))
    issuer = fleet.context.authority.issuer(Purpose.DEVICE, "lab").certificate
    (point,) = held.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    question = ocsp.OCSPRequestBuilder().add_certificate(held, issuer, hashes.SHA256()).build()

    async with fleet.http() as session:
        assert point.full_name is not None
        path = "/" + point.full_name[0].value.split("/", 3)[3]
        async with session.get(path) as response:
            crl = x509.load_der_x509_crl(await response.read())
        body = question.public_bytes(Encoding.DER)
        headers = {"Content-Type": "application/ocsp-request"}
        async with session.post("/ocsp", data=body, headers=headers) as response:
            answer = ocsp.load_der_ocsp_response(await response.read())
    assert crl.is_signature_valid(certified_key(issuer.public_key()))
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
    responder = answer.certificates[0].public_key()
    assert isinstance(responder, mldsa.MLDSA44PublicKey)
    responder.verify(answer.signature, answer.tbs_response_bytes)


async def test_a_classic_key_is_not_certified_below_post_quantum_authorities(fleet: LiveFleet) -> None:
    status, body = await asked(fleet, EstUnit(device_id=LAB.device_id).csr)

    assert status is HTTPStatus.BAD_REQUEST
    assert b"takes keys of type ml-dsa-44, ml-dsa-65" in body


@pytest.mark.parametrize("home", DRIVERS, indirect=True)
async def test_over_mqtt_the_device_is_told_that_its_key_is_of_no_use_there(fleet: LiveFleet) -> None:
    unit = QuantumUnit(key=mldsa.MLDSA44PrivateKey.generate())
    _, proof = await fleet.proof_for(LAB.device_id, domain="lab")
    request = Enroll(id="e1", device_id=LAB.device_id, csr=csr_pem(unit.csr), proof=proof)

    async with fleet.bootstrap("lab", unit.key_hash) as client:
        reply = await ask(client, EnrollTopics(client=unit.key_hash), messages.encode(request))
    assert isinstance(reply, Problem)
    assert reply.code is ProblemCode.BAD_KEY
    assert "opens no MQTT connection today" in reply.detail


@pytest.mark.parametrize("home", DRIVERS, indirect=True)
async def test_the_brokers_are_given_nothing_that_they_cannot_read_and_serve_the_others(
    fleet: LiveFleet,
) -> None:
    home = fleet.home.home
    for path in (home.broker_operational_roots, home.broker_operational_issuers):
        given = x509.load_pem_x509_certificates(path.read_bytes())
        assert given
        assert not any(isinstance(one.public_key(), PostQuantumKey) for one in given)

    device = await fleet.enrolled("classic")
    async with device.connected():
        pass
    held = await enrolled(fleet, QuantumUnit(key=mldsa.MLDSA44PrivateKey.generate()))
    row = await fleet.context.store.read(load_certificate, f"{held.serial_number:032x}")
    assert row is not None


async def test_tls_of_today_cannot_show_such_a_certificate(fleet: LiveFleet) -> None:
    unit = QuantumUnit(key=mldsa.MLDSA44PrivateKey.generate())
    held = await enrolled(fleet, unit)
    pair = fleet.folder / "pair.pem"
    pair.write_bytes(held.public_bytes(Encoding.PEM) + unit.key_pem)

    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    if ssl.OPENSSL_VERSION_INFO >= FIRST_WITH_ML_DSA:
        context.load_cert_chain(pair)
    else:
        with pytest.raises(ssl.SSLError):
            context.load_cert_chain(pair)


@pytest.mark.needs("openssl")
async def test_the_openssl_of_this_machine_reads_and_verifies_it_only_from_3_5_on(fleet: LiveFleet) -> None:
    held = await enrolled(fleet, QuantumUnit(key=mldsa.MLDSA44PrivateKey.generate()))
    file = fleet.folder / "leaf.pem"
    file.write_bytes(held.public_bytes(Encoding.PEM))

    told = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"OpenSSL (\d+)\.(\d+)", told)
    assert version is not None
    command = ["openssl", "x509", "-in", str(file), "-noout", "-pubkey"]
    root = fleet.home.home.trust_root("lab")
    chain = [
        "openssl",
        "verify",
        "-CAfile",
        str(root),
        "-untrusted",
        str(fleet.home.home.trust_chain("lab")),
        str(file),
    ]
    for each in (command, chain):
        done = subprocess.run(each, check=False, capture_output=True)
        assert (done.returncode == 0) == ((int(version[1]), int(version[2])) >= FIRST_WITH_ML_DSA)
