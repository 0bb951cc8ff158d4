"""EST's clients in the field, unmodified: strongSwan's pki, BouncyCastle's, and curl with openssl.

Each runs as its own process against a whole service. What a unit test can say of their expectations is
nothing: what they take, they show.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from device_agent.wire.identity import Identity
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.requests.approvals import Choice, approve
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.programs import Ended, must, run

JAVA_CLIENT = Path(__file__).parent / "est_bouncycastle"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("est") / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def code_for(fleet: LiveFleet, device_id: str) -> str:
    _, proof = await fleet.proof_for(device_id)
    assert proof.code is not None
    return proof.code.reveal()


def check_issuer(fleet: LiveFleet, certificate: x509.Certificate) -> None:
    """Check that a leaf is signed by the issuing CA of the domain."""
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate(fleet.home.home.trust_chain("prod").read_bytes())
    )


# strongSwan


def strongswan(fleet: LiveFleet, operation: str, *words: str | Path) -> list[str | Path]:
    """Return a command of strongSwan's pki, which takes a label as the path of the URL."""
    url = f"https://localhost:{fleet.context.endpoints.https_port}/prod"
    return ["pki", operation, "--url", url, "--cacert", fleet.home.home.server_trust, *words]


@pytest.mark.needs("pki")
async def test_strongswan_fetches_the_cas_enrolls_and_renews(fleet: LiveFleet) -> None:
    folder = fleet.folder
    code = await code_for(fleet, "swan")

    await must(*strongswan(fleet, "--estca", "--caout", "ca.pem", "--outform", "pem"), folder=folder)
    written = sorted(folder.glob("ca*.pem"))
    chain = [word for path in written for word in ("--cacert", path)]
    subjects = {
        x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string() for path in written
    }
    assert subjects == {
        "CN=acme fleet root,O=acme",
        "CN=acme prod root,O=acme",
        "CN=acme prod device issuing CA 1,O=acme",
    }

    await new_swan_request("first", folder=folder)
    enrolling = strongswan(
        fleet, "--est", *chain, "--in", "first.csr", "--userpass", f"swan:{code}", "--outform", "pem"
    )
    (folder / "first.crt").write_bytes(await must(*enrolling, folder=folder))
    first = x509.load_pem_x509_certificate((folder / "first.crt").read_bytes())
    check_issuer(fleet, first)

    await new_swan_request("second", "--san", "swan.prod.acme", folder=folder)
    renewing = strongswan(
        *(fleet, "--est", *chain, "--in", "second.csr"),
        *("--cert", "first.crt", "--key", "first.key", "--outform", "pem"),
    )
    second = x509.load_pem_x509_certificate(await must(*renewing, folder=folder))
    check_issuer(fleet, second)
    assert second.subject == first.subject
    assert second.public_key() != first.public_key()


async def new_swan_request(name: str, *words: str, folder: Path) -> None:
    key = await must("pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem", folder=folder)
    (folder / f"{name}.key").write_bytes(key)
    request = ["pki", "--req", "--in", f"{name}.key", "--type", "ecdsa", "--dn", "CN=swan", *words]
    (folder / f"{name}.csr").write_bytes(await must(*request, folder=folder))


@pytest.mark.needs("pki")
async def test_strongswan_is_told_that_its_code_is_wrong(fleet: LiveFleet) -> None:
    await code_for(fleet, "swan2")
    await new_swan_request("wrong", folder=fleet.folder)

    command = strongswan(fleet, "--est", "--in", "wrong.csr", "--userpass", "swan2:0000-0000-0000-0000")
    ended = await run(*command, folder=fleet.folder)

    assert ended.code != 0
    assert "HTTP 401" in ended.talk


# BouncyCastle

CERTIFICATES = ("first.crt", "second.crt")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("est-bouncycastle")


@dataclass(frozen=True, kw_only=True)
class Bouncy:
    """BouncyCastle's client, built from its sources here and its libraries from Maven."""

    fleet: LiveFleet
    build: Path

    async def must(self, *words: str | Path) -> str:
        ended = await self.run(*words)
        assert ended.code == 0, ended.talk[-4000:]
        return ended.output.decode().strip()

    async def run(self, *words: str | Path) -> Ended:
        if not (self.build / "dependency").exists():
            pom = JAVA_CLIENT / "pom.xml"
            await must(
                "mvn", "-B", "-q", "-f", pom, f"-Dest.build={self.build}", "package", folder=self.build
            )
        classes = f"{self.build}/classes:{self.build}/dependency/*"
        where = f"localhost:{self.fleet.context.endpoints.https_port}"
        trust = self.fleet.home.home.server_trust
        command = ["java", "-cp", classes, "EstClient", where, "prod", trust, *words]
        return await run(*command, folder=self.fleet.folder)


@pytest.fixture
def bouncy(fleet: LiveFleet, build: Path) -> Bouncy:
    return Bouncy(fleet=fleet, build=build)


@pytest.mark.needs("mvn", "java")
async def test_bouncycastle_reads_cacerts_and_csrattrs(bouncy: Bouncy) -> None:
    await bouncy.must("cacerts", "ca.pem")
    found = x509.load_pem_x509_certificates((bouncy.fleet.folder / "ca.pem").read_bytes())
    assert len(found) == 3
    assert await bouncy.must("csrattrs") == "[1.2.840.10045.4.3.2, 1.2.840.10045.2.1]"


@pytest.mark.needs("mvn", "java")
async def test_bouncycastle_enrolls_and_renews(bouncy: Bouncy) -> None:
    folder = bouncy.fleet.folder
    (folder / "code").write_text(await code_for(bouncy.fleet, "bouncy"))

    assert await bouncy.must("enroll", "bouncy", "code", "first.key", "first.crt") == ""
    await bouncy.must("renew", "first.key", "first.crt", "second.key", "second.crt")

    first, second = (x509.load_pem_x509_certificate((folder / name).read_bytes()) for name in CERTIFICATES)
    key = load_pem_private_key((folder / "second.key").read_bytes(), password=None)
    check_issuer(bouncy.fleet, second)
    assert second.subject == first.subject
    assert second.public_key() == key.public_key()


@pytest.mark.needs("mvn", "java")
async def test_bouncycastle_waits_for_approval_behind_a_claim_certificate(bouncy: Bouncy) -> None:
    fleet, folder = bouncy.fleet, bouncy.fleet.folder
    order = BatchOrder(domain="prod", name="b1", uses=2, lifetime=timedelta(days=1), actor="operator:test")
    own = (await create_batch(fleet.context, order)).own
    (folder / "claim.crt").write_bytes(own.certificate.public_bytes(Encoding.PEM))
    (folder / "claim.key").write_bytes(own.key_pem)

    said = await bouncy.must("claim", "claim.key", "claim.crt", "waits", "waits.key", "waits.crt")
    await approve(
        fleet.context, Choice(identity=Identity(domain="prod", device_id="waits")), actor="operator:test"
    )

    assert said == "pending"


@pytest.mark.needs("mvn", "java")
async def test_bouncycastle_is_told_that_its_code_is_wrong(bouncy: Bouncy) -> None:
    await code_for(bouncy.fleet, "bouncy2")
    (bouncy.fleet.folder / "code").write_text("0000-0000-0000-0000")

    ended = await bouncy.run("enroll", "bouncy2", "code", "x.key", "x.crt")

    assert ended.code != 0
    assert re.search(r"HTTP Status Code: 401", ended.talk), ended.talk
