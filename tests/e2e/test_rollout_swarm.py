"""A rollout over five hundred devices of the real protocol halts by itself when two in a hundred fail."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.core.rollout import RolloutEvent, RolloutState
from fleet.model import Role
from fleet.ra.acts.deciding import approve
from fleet.ra.acts.guard import ProposedError
from fleet.ra.campaigns.orders import Order, give_order
from fleet.ra.campaigns.planning import PlanOrder, plan_rollout
from fleet.ra.campaigns.views import View, show
from fleet.ra.performers import PERFORMERS
from fleet.store.operators import OperatorRecord, insert_operator
from fleet.store.rollout_devices import Page, list_members
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.swarm.crowd import a_swarm
from tests.swarm.ways import Mode
from tests.waiting import eventually

NAMES = tuple(f"s-{number:03}" for number in range(500))
PILOT, SECOND = 25, 200
FAILING = 10
PLAN = """
[rollout]
name = "spring"
select = "all"
waves = ["25", "40%", "rest"]
rate_per_minute = 3000
[gate]
updated = 0.9
failed = 0.01
patience = "60s"
soak = "0s"
"""


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("homes") / "home", driver="mosquitto")


@pytest.fixture
async def fleet(made_home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(made_home, tmp_path) as running:
        yield running


async def members(fleet: LiveFleet, wave: int) -> list[str]:
    """Return who is in a wave of the rollout."""
    number = (await show(fleet.context, "spring")).rollout.number
    page = Page(rollout=number, wave=wave, limit=1000)
    return [one.identity.device_id for one in await fleet.context.store.read(list_members, page)]


async def start(fleet: LiveFleet) -> None:
    """Start it as two operators do: five hundred devices are more than one may start alone."""
    second = OperatorRecord(name="second", role=Role.OPERATOR, added_at=fleet.context.clock())
    await fleet.context.store.write(insert_operator, second)
    order = Order(name="spring", event=RolloutEvent.START, actor="operator:local")
    with pytest.raises(ProposedError) as caught:
        await give_order(fleet.context, order)
    await approve(fleet.context, caught.value.proposal, actor="operator:second", performers=PERFORMERS)


async def until_it_stops(fleet: LiveFleet) -> View:
    """Wait until the server has stopped it by itself."""

    async def has_stopped() -> bool:
        return (await show(fleet.context, "spring")).rollout.state is not RolloutState.RUNNING

    await eventually(has_stopped, seconds=120)
    return await show(fleet.context, "spring")


@pytest.mark.needs("mosquitto")
async def test_two_in_a_hundred_that_fail_after_the_pilot_halt_it(fleet: LiveFleet) -> None:
    async with a_swarm(fleet, *NAMES) as swarm:
        await swarm.connect()
        await plan_rollout(fleet.context, PlanOrder(text=PLAN, actor="operator:local"))
        pilot = await members(fleet, wave=1)
        failing = (await members(fleet, wave=2))[:FAILING]
        swarm.fail(failing, Mode.KEYLESS)
        before = {agent.device_id: agent.serial for agent in swarm}
        await start(fleet)
        view = await until_it_stops(fleet)
        assert (view.rollout.state, view.rollout.wave) == (RolloutState.HALTED, 2)
        assert view.rollout.changed_by == "server"
        assert view.waves[0].standing.tally.updated == PILOT
        assert 3 <= view.waves[1].standing.tally.failed <= FAILING, "two of two hundred may fail"
        assert view.waves[2].standing.tally.waiting == len(NAMES) - PILOT - SECOND
        untouched = await members(fleet, wave=3)
        assert all(swarm[name].serial == before[name] for name in untouched)
        assert all(swarm[name].serial != before[name] for name in pilot)
