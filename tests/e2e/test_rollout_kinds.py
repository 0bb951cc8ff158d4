"""What a rollout changes arrives at real agents: keys, settings, trust bundles."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from fleet.core.rollout import RolloutEvent, RolloutState
from fleet.core.rollover import RolloverEvent
from fleet.errors import RefusedError
from fleet.ra.authority.authorities import activate_authority
from fleet.ra.campaigns.orders import Order, give_order
from fleet.ra.campaigns.planning import PlanOrder, plan_rollout
from fleet.ra.campaigns.views import View, show
from fleet.ra.succession.rollover_steps import StepOrder, take_step
from fleet.store.certificates import load_certificate
from fleet.store.choices import configuration_of
from fleet.store.trust import load_held
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.rolling import prepare, stand_by
from tests.swarm.crowd import a_swarm
from tests.waiting import eventually

MANY = 4
OPERATOR = "operator:test"


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("homes") / "home", driver="embedded")


@pytest.fixture
async def fleet(made_home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(made_home, tmp_path) as running:
        yield running


def plan_of(kind: str, who: str, more: str = "") -> str:
    return f"""
[rollout]
name = "{kind}"
kind = "{kind}"
select = "all id={who}-*"
waves = ["1", "rest"]
rate_per_minute = 3000
{more}
[gate]
updated = 1.0
failed = 0.0
patience = "60s"
soak = "0s"
"""


async def rolled_out(fleet: LiveFleet, text: str) -> View:
    """Plan and start a rollout, and wait until it stands still."""
    planned = await plan_rollout(fleet.context, PlanOrder(text=text, actor=OPERATOR))
    name = planned.plan.name
    await give_order(fleet.context, Order(name=name, event=RolloutEvent.START, actor=OPERATOR))

    async def is_still() -> bool:
        return (await show(fleet.context, name)).rollout.state is not RolloutState.RUNNING

    await eventually(is_still, seconds=60)
    return await show(fleet.context, name)


def names_of(what: str) -> tuple[str, ...]:
    return tuple(f"{what}-{number}" for number in range(MANY))


async def every(names: tuple[str, ...], is_so: Callable[[Identity], Awaitable[bool]]) -> None:
    """Wait until it is so of each device."""

    async def all_are() -> bool:
        return all([await is_so(Identity(domain="prod", device_id=name)) for name in names])

    await eventually(all_are)


async def test_new_settings_are_taken_and_told(fleet: LiveFleet) -> None:
    async def holds_what_is_wanted(identity: Identity) -> bool:
        found = await fleet.context.store.read(configuration_of, identity)
        return found is not None and found.held == found.wanted.number

    names = names_of("set")
    async with a_swarm(fleet, *names) as swarm:
        await swarm.connect()
        text = plan_of("configuration", "set", "[configuration]\nlongest_wait_seconds = 600")
        view = await rolled_out(fleet, text)
        assert (view.rollout.state, view.total.updated) == (RolloutState.DONE, MANY)
        await every(names, holds_what_is_wanted)


async def test_a_new_ca_signs_for_the_devices_of_a_rollout_and_for_nobody_else(fleet: LiveFleet) -> None:
    names = names_of("moved")
    async with a_swarm(fleet, *names) as swarm:
        await swarm.connect()
        folder = await stand_by(fleet.context)
        await activate_authority(fleet.context, folder, actor=OPERATOR)
        view = await rolled_out(fleet, plan_of("ca", "moved", f'ca = "{folder}"'))
        assert (view.rollout.state, view.total.updated) == (RolloutState.DONE, MANY)
        for name in names:
            row = await fleet.context.store.read(load_certificate, swarm[name].serial)
            assert row is not None
            assert row.issuer == view.rollout.target
    other = await fleet.enrolled("stays")
    assert other.issued is not None
    row = await fleet.context.store.read(load_certificate, other.issued.serial)
    assert row is not None
    assert row.issuer != view.rollout.target


async def test_a_trust_bundle_reaches_the_pilot_before_it_is_in_force_and_stays_there(
    fleet: LiveFleet,
) -> None:
    async def holds_the_bundle(identity: Identity) -> bool:
        found = await fleet.context.store.read(load_held, identity)
        return found is not None and found.own_version == 1

    names = names_of("told")
    async with a_swarm(fleet, *names) as swarm:
        await swarm.connect()
        await prepare(fleet.context, "prod")
        view = await rolled_out(fleet, plan_of("trust", "told", 'realm = "prod"'))
        assert (view.rollout.state, view.total.updated) == (RolloutState.DONE, MANY)
        await every(names, holds_the_bundle)
        abandon = StepOrder(
            realm="prod", event=RolloverEvent.ABANDON, actor=OPERATOR, at=fleet.context.clock()
        )
        with pytest.raises(RefusedError, match="a rollout has told devices"):
            await take_step(fleet.context, abandon)
        publish = replace(abandon, event=RolloverEvent.PUBLISH)
        assert (await take_step(fleet.context, publish)).heard.acknowledged == MANY
