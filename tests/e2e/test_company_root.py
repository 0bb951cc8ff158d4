"""A company's root and intermediate above our issuing CA, on real brokers, with real devices."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from device_agent.wire.requests import StatusQuery
from fleet.ca.issuer import pem_bundle
from fleet.model import Purpose, RevocationReason
from fleet.ra.authorities import activate_authority, stop_authority
from fleet.ra.certified_authority import Certification, certify_authority
from fleet.ra.new_authority import AuthorityOrder, request_authority
from fleet.ra.revoke import revoke
from fleet.ra.selection import ByDevice
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
    await stop_authority(fleet.context, f"{domain}/device-1", actor=ACTOR)
    return record.folder


async def test_devices_live_below_a_companys_intermediate_and_nobody_is_dropped(fleet: LiveFleet) -> None:
    before = await fleet.enrolled("before", domain="prod")
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
