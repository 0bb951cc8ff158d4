"""A fleet that is ten months old: server, operators and stations renew, each with a key of its own making."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from device_agent.wire.identity import serial_hex
from fleet.cli.station_renewing import renewing
from fleet.cli.workplace import Workplace
from fleet.home import KeyPairFiles
from fleet.model import CertificateState
from fleet.store.certificates import load_certificate
from tests.homes import FleetHome, make_home, utc_now
from tests.live import PLAN, LiveFleet, configure, live
from tests.mqtt import MqttClient, client_context

AGE = timedelta(days=300)


@pytest.fixture(scope="module")
def old_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_home(tmp_path_factory.mktemp("old") / "home", plan=PLAN, now=utc_now() - AGE)
    configure(made.home.config, driver="embedded")
    return made


@pytest.fixture
def home(old_home: FleetHome, tmp_path: Path) -> FleetHome:
    root = shutil.copytree(old_home.home.root, tmp_path / "home")
    return FleetHome(home=type(old_home.home)(root), authority=old_home.authority, made_at=old_home.made_at)


@pytest.fixture
def taken_along(home: FleetHome, tmp_path: Path) -> KeyPairFiles:
    """The operator's files, as he took them from the home when it was new."""
    folder, files = tmp_path / "ada", home.home.operator("admin")
    folder.mkdir()
    for path in (files.certificate, files.key, files.p12, files.p12_password):
        shutil.copy2(path, folder / path.name)
    return KeyPairFiles(certificate=folder / "admin.crt", key=folder / "admin.key")


@pytest.fixture
async def fleet(home: FleetHome, taken_along: KeyPairFiles, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    assert taken_along.key.exists()
    async with live(home, tmp_path) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Said:
    code: int
    out: str
    talk: str


async def fleet_command(fleet: LiveFleet, pair: KeyPairFiles, *arguments: str) -> Said:
    """Run `fleet --server ...` as an operator on another machine does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from fleet.cli import main; main()"),
        *("--server", f"https://localhost:{fleet.context.endpoints.https_port}"),
        *("--operator-cert", str(pair.certificate), "--operator-key", str(pair.key)),
        *("--trust", str(fleet.home.home.server_trust), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    out, talk = await process.communicate()
    return Said(code=process.returncode or 0, out=out.decode(), talk=talk.decode())


def serial_of(pair: KeyPairFiles) -> str:
    return serial_hex(x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number)


async def state_of(fleet: LiveFleet, serial: str) -> CertificateState:
    record = await fleet.context.store.read(load_certificate, serial)
    assert record is not None
    return record.state


async def test_an_old_fleet_starts_with_certificates_that_it_renews_at_once(
    home: FleetHome, fleet: LiveFleet
) -> None:
    async with asyncio.timeout(30):
        while (shown := await shown_at_https(fleet)).not_valid_before_utc < home.made_at + AGE / 2:
            continue  # housekeeping has just begun

    assert serial_hex(shown.serial_number) == serial_of(home.home.server)


async def shown_at_https(fleet: LiveFleet) -> x509.Certificate:
    """Return the certificate that the server shows to whoever connects now."""
    tls = client_context(trust=fleet.home.home.server_trust)
    client = await MqttClient.open(tls, port=fleet.context.endpoints.https_port)
    der = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await client.close()
    return x509.load_der_x509_certificate(der)


async def test_an_operator_is_reminded_renews_over_mtls_and_is_reminded_no_more(
    fleet: LiveFleet, taken_along: KeyPairFiles
) -> None:
    old, old_key = serial_of(taken_along), taken_along.key.read_bytes()
    before = await fleet_command(fleet, taken_along, "operator", "list")
    assert before.code == 0
    assert "fleet operator renew" in before.talk

    renewed = await fleet_command(fleet, taken_along, "operator", "renew")

    assert renewed.code == 0, renewed.talk
    assert taken_along.key.read_bytes() != old_key
    assert await state_of(fleet, serial_of(taken_along)) is CertificateState.ACTIVE
    assert await state_of(fleet, old) is CertificateState.SUPERSEDED
    after = await fleet_command(fleet, taken_along, "operator", "list")
    assert after.code == 0
    assert after.talk == ""


async def test_the_file_for_browsers_is_renewed_beside_the_certificate(
    fleet: LiveFleet, taken_along: KeyPairFiles
) -> None:
    await fleet_command(fleet, taken_along, "operator", "renew")

    p12 = taken_along.certificate.with_suffix(".p12").read_bytes()
    password = taken_along.certificate.with_suffix(".p12-password").read_text().strip().encode()
    held = load_pkcs12(p12, password).cert
    assert held is not None
    assert serial_hex(held.certificate.serial_number) == serial_of(taken_along)


async def test_a_certificate_and_key_in_one_file_stay_in_one_file(
    fleet: LiveFleet, taken_along: KeyPairFiles, tmp_path: Path
) -> None:
    one = tmp_path / "both.pem"
    one.write_bytes(taken_along.key.read_bytes() + taken_along.certificate.read_bytes())
    both = KeyPairFiles(certificate=one, key=one)
    old = serial_of(both)

    renewed = await fleet_command(fleet, both, "operator", "renew")

    assert renewed.code == 0, renewed.talk
    assert serial_of(both) != old
    assert one.stat().st_mode & 0o777 == 0o600
    assert (await fleet_command(fleet, both, "operator", "list")).code == 0


async def test_the_earlier_certificate_lets_nobody_in_after_the_renewal(
    fleet: LiveFleet, taken_along: KeyPairFiles, tmp_path: Path
) -> None:
    copy = KeyPairFiles(certificate=tmp_path / "stolen.crt", key=tmp_path / "stolen.key")
    shutil.copy(taken_along.certificate, copy.certificate)
    shutil.copy(taken_along.key, copy.key)
    await fleet_command(fleet, taken_along, "operator", "renew")

    said = await fleet_command(fleet, copy, "operator", "list")

    assert said.code == 3
    assert "superseded" in said.talk


async def test_nobody_renews_somebody_else(fleet: LiveFleet, taken_along: KeyPairFiles) -> None:
    added = await fleet_command(
        fleet, taken_along, "operator", "add", "eve", "--role", "viewer", "--out", str(taken_along.key.parent)
    )
    assert added.code == 0, added.talk
    eve = KeyPairFiles(certificate=taken_along.key.parent / "eve.crt", key=taken_along.key.parent / "eve.key")

    said = await fleet_command(fleet, eve, "operator", "renew", "admin")

    assert said.code == 2
    assert (await fleet_command(fleet, eve, "operator", "renew")).code == 0


async def test_a_certificate_is_not_ended_by_one_that_was_never_shown(
    fleet: LiveFleet, taken_along: KeyPairFiles
) -> None:
    tls = client_context(
        trust=fleet.home.home.server_trust, certificate=taken_along.certificate, key=taken_along.key
    )
    base = f"https://localhost:{fleet.context.endpoints.https_port}/api/v1/"
    async with (
        aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=tls)) as session,
        session.post("operators/admin/renewed", json={"serial": "7" * 32}) as response,
    ):
        assert response.status == HTTPStatus.FORBIDDEN


async def test_a_station_renews_its_certificate_in_its_home_and_goes_on_with_it(fleet: LiveFleet) -> None:
    files = fleet.home.home.station("local")
    old = serial_of(files)

    async with AsyncExitStack() as stack:
        renewal = await renewing(stack, Workplace.at_home(fleet.home.home, "local"))

    key = load_pem_private_key(files.key.read_bytes(), password=None)
    assert serial_of(files) == renewal.identity.serial != old
    assert renewal.identity.signer.public_key == key.public_key()
    assert await state_of(fleet, old) is CertificateState.SUPERSEDED
