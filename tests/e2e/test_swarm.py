"""Simulated devices are devices: they connect, obey, renew and fail at a live broker as real ones do."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from fleet.model import CertificateState, Purpose
from fleet.ra.noticing import post_notices
from fleet.ra.requests.hastening import Haste, hasten
from fleet.store.devices import load_device
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.swarm.crowd import Swarm, a_swarm
from tests.swarm.ways import Mode

LIVE = {CertificateState.ISSUED, CertificateState.ACTIVE}
NAMES = tuple(f"s-{number:03}" for number in range(40))


@pytest.fixture(
    params=["embedded", pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto"))], scope="module"
)
def made_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("homes") / "home", driver=str(request.param))


@pytest.fixture
async def fleet(made_home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(made_home, tmp_path) as running:
        yield running


async def tell_all(fleet: LiveFleet) -> None:
    """Have every device renew now."""
    (issuer,) = fleet.context.authority.active(Purpose.DEVICE, "prod")
    now = datetime.now(UTC)
    await hasten(
        fleet.context,
        Haste(issuer=issuer.issuer_id, begins=now, within=timedelta(), actor="operator:test"),
    )
    await post_notices(fleet.context)


async def live_serials(fleet: LiveFleet, name: str) -> list[str]:
    device = await fleet.context.store.read(load_device, Identity(domain="prod", device_id=name))
    assert device is not None
    return [one.serial for one in device.certificates if one.state in LIVE]


async def test_a_swarm_that_is_told_to_renew_ends_with_one_live_certificate_each(fleet: LiveFleet) -> None:
    async with a_swarm(fleet, *NAMES) as swarm:
        await swarm.connect()
        before = {agent.device_id: agent.serial for agent in swarm}
        await tell_all(fleet)
        await swarm.until(lambda agent: agent.renewals == 1 and agent.is_online)
        for agent in swarm:
            assert agent.serial != before[agent.device_id]
            assert await live_serials(fleet, agent.device_id) == [agent.serial]


async def trouble(swarm: Swarm, fleet: LiveFleet, mode: Mode, name: str) -> str:
    """Have one device fail, and the other renew; return the certificate that the first one had."""
    await swarm.connect()
    before = swarm[name].serial
    swarm.fail([name], mode)
    await tell_all(fleet)
    await swarm.until(
        lambda agent: agent.renewals == 1, *(one.device_id for one in swarm if one.mode is Mode.WELL)
    )
    return before


async def test_a_device_that_breaks_comes_back_with_the_certificate_that_it_had(fleet: LiveFleet) -> None:
    async with a_swarm(fleet, "broken", "b-well") as swarm:
        before = await trouble(swarm, fleet, Mode.BREAKS, "broken")
        await swarm.until(lambda agent: agent.connections > 1 and agent.is_online, "broken")
        assert swarm["broken"].serial == before
        assert len(await live_serials(fleet, "broken")) == 2, "the new one waits to be confirmed"


async def test_a_device_that_refuses_keeps_its_certificate_and_its_connection(fleet: LiveFleet) -> None:
    async with a_swarm(fleet, "stubborn", "r-well") as swarm:
        before = await trouble(swarm, fleet, Mode.REFUSES, "stubborn")
        assert (swarm["stubborn"].is_online, await live_serials(fleet, "stubborn")) == (True, [before])


async def test_a_device_that_can_make_no_key_says_so_and_stays_connected(fleet: LiveFleet) -> None:
    async with a_swarm(fleet, "keyless", "k-well") as swarm:
        before = await trouble(swarm, fleet, Mode.KEYLESS, "keyless")
        agent = swarm["keyless"]
        assert (agent.serial, agent.problem, agent.is_online) == (before, "key-store", True)


async def test_a_device_that_comes_back_late_goes_on_where_it_stopped(fleet: LiveFleet) -> None:
    async with a_swarm(fleet, "late", "l-well") as swarm:
        before = await trouble(swarm, fleet, Mode.LATE, "late")
        await swarm.until(lambda agent: not agent.is_online, "late")
        assert swarm["late"].serial == before
        swarm.come_back("late")
        await swarm.until(lambda agent: agent.renewals == 1 and agent.is_online, "late")
        assert await live_serials(fleet, "late") == [swarm["late"].serial]
