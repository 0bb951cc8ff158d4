"""Devices that prove what they are to the whole service: by a real TPM, makers' certificates and lists."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.agent import Agent, ClaimFiles, EstEnrollment, MqttEnrollment
from device_agent.config import Settings
from device_agent.errors import RefusedError
from device_agent.wire.identity import Identity
from device_agent.wire.secret import Secret
from fleet.model import Assurance
from fleet.ra.devices import Registration, register, show
from fleet.ra.people.claims import CodeOrder, create_codes
from fleet.ra.people.explain import explain
from fleet.ra.people.roster import ImportFormat, Roster, import_devices
from fleet.ra.requests.approvals import Choice, approve
from fleet.ra.requests.queue import short_code
from fleet.store.codes import GrantKind
from fleet.store.proofs import ProofRecord
from tests.est import EstUnit, leaf
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.makers import TestMaker
from tests.mqtt import client_context
from tests.swtpm import SwTpm, running_tpm

pytestmark = pytest.mark.needs("swtpm", "swtpm_setup", "tpm2_createek")
CSR = {"Content-Type": "application/pkcs10"}


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwTpm]:
    with running_tpm(tmp_path_factory.mktemp("tpm")) as running:
        yield running


@pytest.fixture(scope="module")
def maker() -> TestMaker:
    return TestMaker()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tpm: SwTpm, maker: TestMaker) -> FleetHome:
    folder = tmp_path_factory.mktemp("proofs")
    made = make_live_home(folder / "home", driver="embedded")
    anchors = maker.anchors(folder / "maker.pem")
    text = made.home.config.read_text()
    text = text.replace("[domains.prod]\n", '[domains.prod]\nassurance = "hardware"\n')
    text = text.replace("[domains.lab]\n", '[domains.lab]\nassurance = "manufacturer"\n')
    made.home.config.write_text(
        f'{text}\n[domains.prod.tpm.swtpm]\nanchors = "{tpm.anchors}"\n'
        f'[domains.lab.manufacturers.acme]\nanchors = "{anchors}"\nprefix = "acme-"\n'
    )
    return made


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


def order(fleet: LiveFleet, device_id: str, *, domain: str = "prod") -> MqttEnrollment:
    claim = fleet.home.home.public_claim(domain)
    return MqttEnrollment(
        host="localhost",
        port=fleet.context.endpoints.mqtt_bootstrap_port,
        device_id=device_id,
        trust_pem=fleet.home.home.server_trust.read_text(),
        claim=ClaimFiles(certificate=claim.certificate, key=claim.key),
    )


async def code_for(fleet: LiveFleet, device_id: str, *, domain: str = "prod") -> Secret:
    identity = Identity(domain=domain, device_id=device_id)
    asked = CodeOrder(identities=(identity,), actor="operator:test", lifetime=timedelta(days=1))
    (made,) = await create_codes(fleet.context, asked)
    return made.code


def with_tpm(folder: Path, tpm: SwTpm, *, patience: float = 0) -> Settings:
    return Settings(
        state=folder / "state",
        key_place=f"tpm:{tpm.place}",
        patience=timedelta(seconds=patience),
        first_wait=timedelta(),
    )


async def proved(fleet: LiveFleet, device_id: str, *, domain: str = "prod") -> ProofRecord:
    view = await show(fleet.context, Identity(domain=domain, device_id=device_id))
    (proof,) = view.proofs
    return proof


async def test_a_key_that_never_leaves_its_tpm_is_attested_certified_and_used_in_tls(
    fleet: LiveFleet, tpm: SwTpm, tmp_path: Path
) -> None:
    asked = replace(order(fleet, "tpm-code"), has_tpm=True, code=await code_for(fleet, "tpm-code"))
    with Agent.opened(with_tpm(tmp_path, tpm)) as agent:
        status = await agent.enroll_mqtt(asked)  # the last step of it is mTLS with the key in the TPM
        async with agent.connected():
            async with asyncio.timeout(20):
                await agent.ready()
            await agent.publish("telemetry", b"21.5")
            renewed = await agent.renew()
    assert (await proved(fleet, "tpm-code")).assurance is Assurance.HARDWARE
    assert not (tmp_path / "state/current/key.pem").exists()
    assert (tmp_path / "state/current/key.uri").read_text().startswith("tpm:")
    assert renewed.serial != status.serial


async def test_a_tpm_without_a_certificate_needs_no_code_where_a_list_gives_it_to_a_device(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    with running_tpm(tmp_path / "bare", certified=False) as bare:
        bare.tool("tpm2_createek", "-c", "ek.ctx", "-G", "ecc", "-u", "ek.pem", "-f", "pem")
        ek = "".join((bare.folder / "ek.pem").read_text().splitlines()[1:-1])
        with Agent.opened(with_tpm(tmp_path, bare)) as agent:
            asked = replace(order(fleet, "listed"), has_tpm=True)
            with pytest.raises(RefusedError, match="nobody vouches for the TPM: it has no certificate"):
                await agent.enroll_mqtt(asked)
            await take(fleet, f"device_id,ek\nlisted,{ek}\n")
            await agent.enroll_mqtt(asked)
    assert (await proved(fleet, "listed")).kind is GrantKind.TPM


async def test_a_tpm_that_nobody_has_named_waits_for_the_short_code_that_it_shows(
    fleet: LiveFleet, tpm: SwTpm, tmp_path: Path
) -> None:
    asked = replace(order(fleet, "waits"), has_tpm=True)
    with Agent.opened(with_tpm(tmp_path, tpm)) as agent:
        with pytest.raises(RefusedError) as waits:
            await agent.enroll_mqtt(asked)
        pending = agent.record.life.pending
        assert pending is not None
        code = short_code(pending.key_hash)
        assert code in str(waits.value)
        await approve(fleet.context, Choice(short_code=code), actor="operator:test")
        await agent.enroll_mqtt(asked)
    assert (await proved(fleet, "waits")).assurance is Assurance.HARDWARE


async def test_what_a_profile_needs_and_what_was_proved_is_said_to_device_and_operator(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    asked = replace(order(fleet, "weak"), code=await code_for(fleet, "weak"))
    settings = Settings(state=tmp_path / "state", patience=timedelta())
    needed = "needs the assurance hardware, and code was proved"
    with Agent.opened(settings) as agent, pytest.raises(RefusedError, match=needed):
        await agent.enroll_mqtt(asked)
    story = await explain(fleet.context, Identity(domain="prod", device_id="weak"))
    reasons = [value for entry in story.entries for name, value in entry.entry.details if name == "reason"]
    assert "the profile device needs the assurance hardware, and code was proved" in reasons


async def test_a_makers_certificate_proves_its_device_over_mqtt(
    fleet: LiveFleet, maker: TestMaker, tmp_path: Path
) -> None:
    await registered(fleet, "acme-0042")
    certificate, key = maker.idevid("0042").write(tmp_path, "idevid")
    idevid = ClaimFiles(certificate=certificate, key=key)
    asked = replace(order(fleet, "acme-0042", domain="lab"), idevid=idevid)
    with Agent.opened(Settings(state=tmp_path / "state", first_wait=timedelta())) as agent:
        status = await agent.enroll_mqtt(asked)
    assert status.name == "lab:acme-0042"
    assert "of manufacturer acme" in (await proved(fleet, "acme-0042", domain="lab")).evidence


async def test_a_makers_certificate_proves_its_device_over_est(
    fleet: LiveFleet, maker: TestMaker, tmp_path: Path
) -> None:
    await registered(fleet, "acme-0043")
    async with maker_session(fleet, maker.idevid("0043").write(tmp_path, "idevid")) as session:
        unit = EstUnit(device_id="acme-0043")
        status, _, body = await enroll(session, unit)
        stolen, _, said = await enroll(session, EstUnit(device_id="acme-0042"))
    assert status is HTTPStatus.OK, body
    assert leaf(body).public_key() == unit.key.public_key()
    assert (stolen, said) == (HTTPStatus.BAD_REQUEST, b"the proof is of the device acme-0043\n")


async def test_an_agent_waits_for_its_approval_over_est_with_its_makers_certificate(
    fleet: LiveFleet, maker: TestMaker, tmp_path: Path
) -> None:
    certificate, key = maker.idevid("0045").write(tmp_path, "idevid")
    asked = EstEnrollment(
        url=f"https://localhost:{fleet.context.endpoints.https_port}/lab",
        device_id="acme-0045",
        trust_pem=fleet.home.home.server_trust.read_text(),
        idevid=ClaimFiles(certificate=certificate, key=key),
    )
    with Agent.opened(Settings(state=tmp_path / "state", patience=timedelta())) as agent:
        with pytest.raises(RefusedError) as waits:
            await agent.enroll(asked)
        pending = agent.record.life.pending
        assert pending is not None
        code = short_code(pending.key_hash)
        assert code in str(waits.value)
        await approve(fleet.context, Choice(short_code=code), actor="operator:test")
        status = await agent.enroll(asked)
        assert (status.name, status.key) == ("lab:acme-0045", pending.key)
        assert (await agent.renew_once()).serial != status.serial


async def test_est_says_202_until_somebody_approves_and_then_the_same_request_is_answered(
    fleet: LiveFleet, maker: TestMaker, tmp_path: Path
) -> None:
    unit = EstUnit(device_id="acme-0044")
    async with maker_session(fleet, maker.idevid("0044").write(tmp_path, "idevid")) as session:
        first, headers, body = await enroll(session, unit)
        again, _, _ = await enroll(session, unit)
        code = headers["X-Fleet-Approval-Code"]
        await approve(fleet.context, Choice(short_code=code), actor="operator:test")
        last, _, got = await enroll(session, unit)
    assert (first, again, body, headers["Retry-After"]) == (
        HTTPStatus.ACCEPTED,
        HTTPStatus.ACCEPTED,
        b"",
        "30",
    )
    assert last is HTTPStatus.OK, got
    assert leaf(got).public_key() == unit.key.public_key()


async def test_a_key_that_its_maker_has_listed_enrolls_over_est_with_nothing_else(fleet: LiveFleet) -> None:
    unit, other = EstUnit(device_id="chip-1"), EstUnit(device_id="chip-1")
    key = unit.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    await take(fleet, f"device_id,public_key\nchip-1,{b64encode(key).decode()}\n", domain="lab")
    async with maker_session(fleet, None) as session:
        stranger, headers, _ = await enroll(session, other)
        status, _, body = await enroll(session, unit)
    assert (stranger, "WWW-Authenticate" in headers) == (HTTPStatus.UNAUTHORIZED, True)
    assert status is HTTPStatus.OK, body
    assert (await proved(fleet, "chip-1", domain="lab")).kind is GrantKind.MANIFEST


async def take(fleet: LiveFleet, text: str, *, domain: str = "prod") -> None:
    roster = Roster(text=text, format=ImportFormat.AUTO, domain=domain)
    await import_devices(fleet.context, roster, actor="operator:test")


async def registered(fleet: LiveFleet, device_id: str) -> None:
    registration = Registration(identity=Identity(domain="lab", device_id=device_id))
    await register(fleet.context, registration, actor="operator:test")


@asynccontextmanager
async def maker_session(
    fleet: LiveFleet, files: tuple[Path, Path] | None
) -> AsyncIterator[aiohttp.ClientSession]:
    trust = fleet.home.home.server_trust
    tls: ssl.SSLContext = client_context(trust=trust)
    if files is not None:
        tls = client_context(trust=trust, certificate=files[0], key=files[1])
    base = f"https://localhost:{fleet.context.endpoints.https_port}"
    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=tls)) as session:
        yield session


async def enroll(session: aiohttp.ClientSession, unit: EstUnit) -> tuple[HTTPStatus, dict[str, str], bytes]:
    path = "/.well-known/est/lab/simpleenroll"
    async with session.post(path, data=unit.csr, headers=CSR) as response:
        return HTTPStatus(response.status), dict(response.headers), await response.read()
