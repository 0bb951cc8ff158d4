"""What an operator changes of the authorities while devices are connected: nobody notices."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from device_agent.wire.requests import StatusQuery
from fleet import config
from fleet.ca.issuer import pem_bundle
from fleet.files import write_file
from fleet.model import Purpose, RevocationReason
from fleet.ra.authority.authorities import activate_authority
from fleet.ra.authority.certified_authority import Certification, certify_authority
from fleet.ra.authority.new_authority import AuthorityOrder, request_authority
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from tests.company import Company
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import NotLetInError

ACTOR = "operator:test"
QUERY = StatusQuery(id="00000000-0000-4000-8000-000000000000")


@pytest.fixture(
    params=["embedded", pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto"))], scope="module"
)
def made_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("homes") / "home", driver=str(request.param))


@pytest.fixture
async def fleet(made_home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(made_home, tmp_path) as running:
        yield running


async def command(fleet: LiveFleet, *arguments: str) -> dict[str, object]:
    """Run a command of ours in a process of its own, and return what it prints."""
    program = [str(Path(sys.executable).parent / "fleet"), "--home", str(fleet.home.home.root)]
    done = await asyncio.to_thread(
        lambda: subprocess.run([*program, *arguments, "--json"], capture_output=True, text=True, check=False)
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def signer_of(fleet: LiveFleet, chain: str) -> str:
    """Return the name of the CA that stands first in a chain."""
    first = x509.load_pem_x509_certificates(chain.encode())[0]
    (issuer,) = [one for one in fleet.context.authority.issuers if one.certificate == first]
    (name,) = [one.folder for one in fleet.context.authority.records if one.issuer == issuer.issuer_id]
    return name


async def test_a_ca_and_a_domain_are_added_while_a_device_is_connected(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    before = await fleet.enrolled("before")
    async with before.connected() as session:
        # The root is kept on another disk, and its passphrase in a file of its own.
        root = tmp_path / "disk"
        (fleet.home.home.ca / "prod").joinpath("ca.key").rename(make(root) / "ca.key")
        (root / "ca.crt").write_bytes((fleet.home.home.ca / "prod" / "ca.crt").read_bytes())
        write_file(tmp_path / "passphrase", fleet.home.home.root_passphrase.read_bytes())
        opener = ("--passphrase-file", str(tmp_path / "passphrase"))
        added = await command(fleet, "ca", "add", "--domain", "prod", "--root", str(root), *opener)
        assert (added["name"], added["state"]) == ("prod/device-2", "active")
        await command(fleet, "ca", "stop", "prod/device-1")
        later = await fleet.enrolled("later")
        assert later.issued is not None
        assert signer_of(fleet, later.issued.chain) == "prod/device-2"

        found = await command(fleet, "domain", "add", "field", *opener)
        assert found["issuing"] == ["field/device-1"]
        device = await fleet.enrolled("d1", domain="field")
        assert device.issued is not None
        assert signer_of(fleet, device.issued.chain) == "field/device-1"
        assert config.load(fleet.home.home.config).domain("field") is not None
        await before.ask(QUERY, session)
    async with device.connected() as field, later.connected() as prod:
        await device.ask(QUERY, field)
        await later.ask(QUERY, prod)
    device.identity, kept = later.identity, device.identity
    with pytest.raises((NotLetInError, AssertionError)):  # a leaf of one domain is worth nothing in another
        async with device.connected():
            pass
    device.identity = kept


async def test_a_roots_list_is_renewed_from_another_disk(fleet: LiveFleet, tmp_path: Path) -> None:
    (before,) = [root.crl for root in fleet.context.authority.roots if root.record.folder == "lab"]
    found = await command(fleet, "ca", "crl", "lab")
    async with fleet.http() as http, http.get(f"/crl/{found['issuer']}.crl") as response:
        served = await response.read()
    assert served != before
    assert x509.load_der_x509_crl(served).next_update_utc is not None


def make(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


async def hand_over(fleet: LiveFleet, company: Company, domain: str) -> str:
    """Let the company's intermediate sign an issuing CA of ours, and put it to work; return its name."""
    order = AuthorityOrder(realm=domain, purpose=Purpose.DEVICE, actor=ACTOR)
    requested = await request_authority(fleet.context, order)
    certification = Certification(
        name=requested.record.folder,
        chain_pem=pem_bundle(company.chain_for(requested.csr_pem)),
        anchor_pem=pem_bundle([company.root.certificate]),
        actor=ACTOR,
    )
    record = await certify_authority(fleet.context, certification)
    await activate_authority(fleet.context, record.folder, actor=ACTOR)
    return record.folder


async def test_devices_live_below_a_companys_intermediate_and_nobody_is_dropped(fleet: LiveFleet) -> None:
    before = await fleet.enrolled("witness", domain="prod")
    async with before.connected() as session:
        company = Company(now=datetime.now(UTC).replace(microsecond=0))
        await hand_over(fleet, company, "lab")
        device = await fleet.enrolled("d1", domain="lab")
        assert device.issued is not None
        assert len(x509.load_pem_x509_certificates(device.issued.chain.encode())) == 2
        async with device.connected() as client:
            await device.ask(QUERY, client)
            receipt = await revoke(
                fleet.context,
                ByDevice(identities=(device.identity,)),
                reason=RevocationReason.KEY_COMPROMISE,
                actor=ACTOR,
            )
        assert receipt.revoked
        with pytest.raises((NotLetInError, AssertionError)):
            async with device.connected():
                pass
        await before.ask(QUERY, session)
