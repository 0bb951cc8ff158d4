"""The agent enrolls and renews over EST against the whole service, on each broker, with each kind of key."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.config import Settings
from device_agent.core.lifecycle import State
from device_agent.enrollment import EstEnrollment
from device_agent.wire.identity import Identity
from fleet.core import lifecycle
from fleet.model import ClientKind
from fleet.ra.people.claims import CodeOrder, create_codes
from tests.e2e.test_agent_fleet import DRIVERS, backend, device_of, settings
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home


@pytest.fixture(scope="module", params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("est-agents") / "home", driver=request.param)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def by_code(fleet: LiveFleet, device_id: str) -> EstEnrollment:
    identity = Identity(domain="prod", device_id=device_id)
    order = CodeOrder(identities=(identity,), actor="operator:test", lifetime=timedelta(days=1))
    (made,) = await create_codes(fleet.context, order)
    return EstEnrollment(
        url=f"https://localhost:{fleet.context.endpoints.https_port}/prod",
        device_id=device_id,
        trust_pem=fleet.home.home.server_trust.read_text(),
        code=made.code,
    )


async def lives(fleet: LiveFleet, chosen: Settings, device_id: str) -> None:
    """Enroll, connect, renew and publish, all certificates by EST."""
    with Agent.opened(chosen) as agent:
        first = await agent.enroll(await by_code(fleet, device_id))
        async with backend(fleet) as client, agent.connected():
            await client.subscribe(f"devices/prod/{device_id}/up")
            await agent.ready()
            second = await agent.renew()
            await agent.publish("up", b"by est")
            assert (await client.receive()).body == b"by est"
        device = await device_of(fleet, agent)
    assert device.kind is ClientKind.PLAIN
    assert first.serial != second.serial == device.current
    assert first.key != second.key
    assert lifecycle.admitted(device) == {second.serial}
    assert second.state == State.SETTLED


async def test_a_device_lives_by_est_with_its_key_in_a_file(fleet: LiveFleet, tmp_path: Path) -> None:
    await lives(fleet, settings(tmp_path), "files")
