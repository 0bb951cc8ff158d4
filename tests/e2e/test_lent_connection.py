"""An agent renews over HTTPS at the real server, while another program holds the device's MQTT connection."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.config import Connection, Settings
from device_agent.errors import RefusedError
from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.model import CertificateState, RevocationReason
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.store.devices import load_device
from tests.agents import enrolled
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home

IDENTITY = Identity(domain="prod", device_id="d1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("lent") / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def lent(fleet: LiveFleet) -> Settings:
    """Enroll over MQTT, and return how its agent goes on."""
    async with AsyncExitStack() as stack:
        agent = await enrolled(fleet, stack, "d1")
        return replace(agent.settings, connection=Connection.LENT)


async def test_it_renews_and_is_told_what_became_of_it_without_mqtt(fleet: LiveFleet) -> None:
    with Agent.opened(await lent(fleet)) as agent:
        for _ in range(2):
            before = agent.status().serial
            status = await agent.renew_once()
            assert (status.serial != before, status.pending) == (True, False)
        device = await fleet.context.store.read(load_device, IDENTITY)
        assert device is not None
        states = [found.state for found in device.certificates]
        assert states[-2:] == [CertificateState.SUPERSEDED_ACKED, CertificateState.ACTIVE]

        await revoke(
            fleet.context,
            ByDevice(identities=(IDENTITY,)),
            reason=RevocationReason.KEY_COMPROMISE,
            actor="operator:test",
        )
        with pytest.raises(RefusedError) as caught:
            await agent.renew_once()
        assert caught.value.code is ProblemCode.REVOKED
