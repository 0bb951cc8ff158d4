"""The day on which an issuing CA's key is lost or stolen, under real agents on a real broker."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.agent import Agent
from fleet.core.authority import AuthorityState
from fleet.errors import RefusedError
from fleet.model import CertificateState, Purpose
from fleet.ra.authority.authorities import activate_authority
from fleet.ra.authority_changes import find
from fleet.ra.succession.compromise import Admission, Loss, LossOrder, LossOutcome, give_up, rehearse_loss
from fleet.store.certificates import load_certificate
from fleet.store.keys import blocked_because
from tests.agents import a_fleet, enrolled
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.rolling import ACTOR, stand_by
from tests.waiting import until

pytestmark = pytest.mark.needs("mosquitto", "gcc")


@pytest.fixture
def home(tmp_path: Path) -> FleetHome:
    return make_live_home(tmp_path / "home", driver="mosquitto")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


def serials(agents: Sequence[Agent]) -> list[str]:
    return [agent.status().serial or "" for agent in agents]


async def issuers(fleet: LiveFleet, agents: Sequence[Agent]) -> set[str]:
    rows = [await fleet.context.store.read(load_certificate, serial) for serial in serials(agents)]
    names = {one.issuer: one.folder for one in fleet.context.authority.records}
    return {names[row.issuer] for row in rows if row is not None}


def order(fleet: LiveFleet, loss: Loss, admission: Admission = Admission.GO_ON) -> LossOrder:
    return LossOrder(
        name="prod/device-1",
        loss=loss,
        actor=ACTOR,
        at=fleet.context.clock().replace(microsecond=0),
        within=timedelta(),
        admission=admission,
    )


async def test_a_stolen_ca_is_followed_by_the_one_that_stands_by_and_all_devices_move(
    fleet: LiveFleet,
) -> None:
    context = fleet.context
    async with a_fleet(fleet, "d1", "d2", "d3") as agents:
        standby, before = await stand_by(context), serials(agents)
        rehearsed = await rehearse_loss(context, order(fleet, Loss.COMPROMISED))
        assert (rehearsed.state, rehearsed.successor) == (AuthorityState.ACTIVE, standby)
        assert rehearsed.need.count == 3

        outcome = await give_up(context, order(fleet, Loss.COMPROMISED))
        assert (outcome.successor, outcome.hastened, outcome.problems) == (standby, 3, ())
        await until(lambda: not set(serials(agents)) & set(before))
        assert await issuers(fleet, agents) == {standby}
        assert all(agent.status().connected for agent in agents)
        again = await give_up(context, order(fleet, Loss.COMPROMISED))
        assert (again.hastened, again.due) == (0, 3)
        await _check_revoked(fleet, again)
        with pytest.raises(RefusedError, match="given up"):
            await activate_authority(context, "prod/device-1", actor=ACTOR)


async def _check_revoked(fleet: LiveFleet, outcome: LossOutcome) -> None:
    assert outcome.revoked is not None
    assert not outcome.root_knows, "the root's key is off line: its list is made where the key is"
    row = await fleet.context.store.read(load_certificate, outcome.revoked)
    assert row is not None
    assert row.state is CertificateState.REVOKED
    assert await fleet.context.store.read(blocked_because, row.life.key_hash) is not None


async def test_devices_of_a_ca_that_is_cut_off_come_back_by_themselves(fleet: LiveFleet) -> None:
    context = fleet.context
    async with AsyncExitStack() as stack:
        sleeper = await enrolled(fleet, stack, "sleeper")
        before = sleeper.status().serial
        standby = await stand_by(context)
        outcome = await give_up(context, order(fleet, Loss.COMPROMISED, Admission.CUT_OFF))
        assert outcome.state is AuthorityState.COMPROMISED
        await stack.enter_async_context(sleeper.connected())
        await sleeper.ready()
        await until(lambda: sleeper.status().serial != before and sleeper.status().connected)
        assert await issuers(fleet, [sleeper]) == {standby}


async def test_a_ca_whose_key_is_gone_is_followed_and_the_server_can_start_again(
    home: FleetHome, tmp_path: Path
) -> None:
    async with live(home, tmp_path) as fleet, a_fleet(fleet, "d1", "d2") as agents:
        standby, before = await stand_by(fleet.context), serials(agents)
        home.home.authority_files("prod/device-1").ca.key.unlink()
        outcome = await give_up(fleet.context, order(fleet, Loss.LOST))
        assert (outcome.state, outcome.successor) == (AuthorityState.RETIRED, standby)
        await until(lambda: not set(serials(agents)) & set(before))
        assert await issuers(fleet, agents) == {standby}
    async with live(home, tmp_path) as fleet:
        assert fleet.context.authority.active(Purpose.DEVICE, "prod")[0].state is AuthorityState.ACTIVE


async def test_without_an_heir_it_stops_all_the_same_and_a_root_is_not_given_up_so(fleet: LiveFleet) -> None:
    outcome = await give_up(fleet.context, order(fleet, Loss.COMPROMISED))
    assert (outcome.state, outcome.successor) == (AuthorityState.RETIRING, None)
    record = await fleet.context.store.read(find, "prod/device-1")
    assert record.state is AuthorityState.RETIRING
    with pytest.raises(RefusedError, match="prod is a root"):
        await give_up(
            fleet.context, LossOrder(name="prod", loss=Loss.LOST, actor=ACTOR, at=record.changed_at)
        )
