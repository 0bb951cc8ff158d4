"""Relying parties in the field, unmodified, against a whole service: OpenSSL, GnuTLS and Java ask where
certificates stand, and agree."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.replies import Issued
from device_agent.wire.requests import Renew
from fleet.core.partition import PARTITIONS
from fleet.model import RevocationReason
from fleet.ra.devices import resume, suspend
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from tests.desk import Unit
from tests.homes import FleetHome
from tests.live import LiveDevice, LiveFleet, live, make_live_home
from tests.programs import run

ACTOR = "operator:test"
JAVA = Path(__file__).parent / "status_java" / "CheckStatus.java"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("status") / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """One certificate in each state, by its word."""

    fleet: LiveFleet
    devices: dict[str, LiveDevice]

    @property
    def files(self) -> dict[str, Path]:
        return {word: device.files()[0] for word, device in self.devices.items()}

    @property
    def root(self) -> Path:
        return self.fleet.home.home.trust_root("prod")

    @property
    def issuer(self) -> Path:
        return self.fleet.home.home.trust_chain("prod")

    def leaf(self, word: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.files[word].read_bytes())


@pytest.fixture
async def leaves(fleet: LiveFleet) -> Leaves:
    words = ("good", "keyCompromise", "certificateHold", "superseded")
    devices = {word: await fleet.enrolled(f"{word}-{uuid4().hex[:8]}") for word in words}
    await renew(fleet, devices["superseded"])
    await revoke_one(fleet, devices["keyCompromise"])
    await suspend(fleet.context, devices["certificateHold"].identity, actor=ACTOR)
    return Leaves(fleet=fleet, devices=devices)


async def renew(fleet: LiveFleet, device: LiveDevice) -> None:
    fresh = LiveDevice(fleet=fleet, identity=device.identity, unit=Unit(device_id=device.identity.device_id))
    async with device.connected() as client:
        reply = await device.ask(Renew(id="r", csr=fresh.unit.csr, attempt=1), client)
        await client.disconnect()
    assert isinstance(reply, Issued), reply
    fresh.issued = reply
    await fresh.confirm()


async def revoke_one(fleet: LiveFleet, device: LiveDevice) -> None:
    reason = RevocationReason.KEY_COMPROMISE
    receipt = await revoke(fleet.context, ByDevice(identities=(device.identity,)), reason=reason, actor=ACTOR)
    assert receipt.verified, receipt.problem


async def fetch(fleet: LiveFleet, path: str) -> bytes:
    async with fleet.http() as session, session.get(path) as response:
        assert response.status == HTTPStatus.OK, path
        return await response.read()


def crl_path(leaf: x509.Certificate) -> str:
    """Return where the leaf says that its list is, on the status listener."""
    (point,) = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (name,) = list(point.full_name or ())
    return "/crl/" + str(name.value).rpartition("/")[2]


# --- lists ---------------------------------------------------------------------------------------------


async def verify(leaves: Leaves, word: str, crls: Sequence[bytes], *flags: str) -> str:
    """Return what `openssl verify` says of a leaf with these lists."""
    bundle = leaves.fleet.folder / "crls.pem"
    bundle.write_bytes(b"".join(x509.load_der_x509_crl(one).public_bytes(Encoding.PEM) for one in crls))
    trust: list[str | Path] = ["-CAfile", leaves.root, "-untrusted", leaves.issuer, "-CRLfile", bundle]
    command = ("openssl", "verify", "-crl_check", *flags, *trust, leaves.files[word])
    ended = await run(*command, folder=leaves.fleet.folder)
    return "good" if ended.code == 0 else ended.said


@pytest.mark.needs("openssl")
async def test_openssl_judges_each_leaf_by_the_part_that_it_names(leaves: Leaves) -> None:
    for word in leaves.files:
        part = await fetch(leaves.fleet, crl_path(leaves.leaf(word)))
        told = await verify(leaves, word, [part])
        assert told == "good" if word == "good" else "certificate revoked" in told, (word, told)


@pytest.mark.needs("openssl")
async def test_openssl_takes_no_other_part_for_it(leaves: Leaves) -> None:
    path = crl_path(leaves.leaf("keyCompromise"))
    issuer, _, number = path.removesuffix(".crl").rpartition("-")
    other = PARTITIONS + (int(number) + 1) % PARTITIONS
    told = await verify(leaves, "keyCompromise", [await fetch(leaves.fleet, f"{issuer}-{other}.crl")])
    assert "different CRL scope" in told


@pytest.mark.needs("openssl")
async def test_openssl_judges_every_leaf_by_the_complete_list(leaves: Leaves) -> None:
    path = crl_path(leaves.leaf("good")).rpartition("-")[0] + ".crl"
    complete = await fetch(leaves.fleet, path)
    for word in leaves.files:
        told = await verify(leaves, word, [complete])
        assert told == "good" if word == "good" else "certificate revoked" in told, (word, told)


@pytest.mark.needs("openssl")
async def test_openssl_follows_a_hold_and_its_release_by_deltas_on_one_base(leaves: Leaves) -> None:
    fleet, stem = leaves.fleet, crl_path(leaves.leaf("good")).rpartition("-")[0]
    good, held = (leaves.devices[word].identity for word in ("good", "certificateHold"))
    base = await fetch(fleet, f"{stem}.crl")
    deltas = ("-extended_crl", "-use_deltas")

    before = [
        await verify(leaves, word, [base, await fetch(fleet, f"{stem}-delta.crl")], *deltas)
        for word in ("good", "certificateHold")
    ]
    await suspend(fleet.context, good, actor=ACTOR)
    await resume(fleet.context, held, actor=ACTOR)
    after = [
        await verify(leaves, word, [base, await fetch(fleet, f"{stem}-delta.crl")], *deltas)
        for word in ("good", "certificateHold")
    ]

    assert (before[0], "certificate revoked" in before[1]) == ("good", True), before
    assert ("certificate revoked" in after[0], after[1]) == (True, "good"), after


# --- OCSP ----------------------------------------------------------------------------------------------


@pytest.mark.needs("openssl")
async def test_openssl_is_told_each_state_by_post_for_several_at_once(leaves: Leaves) -> None:
    asked = [part for file in leaves.files.values() for part in ("-cert", file)]
    url = f"http://localhost:{leaves.fleet.context.endpoints.http_port}/ocsp"
    ended = await run(
        *("openssl", "ocsp", "-issuer", leaves.issuer, *asked, "-url", url),
        *("-CAfile", leaves.root, "-verify_other", leaves.issuer),
        folder=leaves.fleet.folder,
    )
    told = ended.said
    assert ended.code == 0, told
    assert "Response verify OK" in told
    assert "WARNING" not in told, "the nonce came back"
    for word, file in leaves.files.items():
        answer = told.partition(f"{file}:")[2].partition(str(leaves.fleet.folder))[0]
        assert ("good" in answer) if word == "good" else (f"Reason: {word}" in answer), told


@pytest.mark.needs("ocsptool")
async def test_gnutls_is_told_the_same(leaves: Leaves) -> None:
    url = f"http://localhost:{leaves.fleet.context.endpoints.http_port}/ocsp"
    for word, file in leaves.files.items():
        ended = await run(
            *("ocsptool", f"--ask={url}", f"--load-cert={file}"),
            *(f"--load-issuer={leaves.issuer}", f"--load-trust={leaves.issuer}"),
            folder=leaves.fleet.folder,
        )
        told = ended.said
        assert f"Certificate Status: {'good' if word == 'good' else 'revoked'}" in told, told
        assert "Verifying OCSP Response: Success" in told, told


@pytest.mark.needs("java")
async def test_java_agrees_by_ocsp_alone_and_by_the_crl_that_each_leaf_names_alone(leaves: Leaves) -> None:
    command: list[str | Path] = ["java", JAVA, leaves.root, leaves.issuer, *leaves.files.values()]
    ended = await run(*command, folder=leaves.fleet.folder)
    words = {
        "good": "good",
        "keyCompromise": "KEY_COMPROMISE",
        "certificateHold": "CERTIFICATE_HOLD",
        "superseded": "SUPERSEDED",
    }
    assert ended.code == 0, ended.said
    told = ended.output.decode().splitlines()
    assert told == [f"{words[word]} {words[word]}" for word in leaves.files], ended.said
