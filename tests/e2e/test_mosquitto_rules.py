"""Rules at a Mosquitto with the guard: garbage never replaces them, a broker that starts alone has them."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from fleet.broker.guard_link import GuardRefusedError
from fleet.broker.mosquitto import MosquittoBroker
from fleet.errors import FleetError
from fleet.grants import Action, Classes, Effect, Grant, GrantSet
from fleet.model import Purpose
from tests.broker_home import BrokerHome
from tests.broker_world import World, mosquitto, put_guard
from tests.mqtt import REFUSED_SUBSCRIPTION
from tests.pki import Pki
from tests.waiting import until

pytestmark = pytest.mark.needs("mosquitto", "gcc")

SITES = Grant(effect=Effect.ALLOW, action=Action.SUBSCRIBE, pattern="sites/#")
SITES_ALONE: Classes = {1: GrantSet(purpose=Purpose.DEVICE, grants=(SITES,))}
ASKED = ("sites/#", "devices/prod/d1/#")
BY_SITES = [1, REFUSED_SUBSCRIPTION]


@pytest.fixture
async def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    home = BrokerHome(tmp_path, Pki())
    put_guard(home.files.folder, from_folder=tmp_path_factory.mktemp("guard"))
    async with mosquitto(home) as broker:
        world = await World.of(broker, home)
        yield world
        await world.close()


def managed(world: World) -> MosquittoBroker:
    assert isinstance(world.broker, MosquittoBroker)
    return world.broker


def pid_of(world: World) -> int:
    """Return the broker's process id; 0 while it starts."""
    with suppress(FileNotFoundError, ValueError):
        return int((world.home.files.folder / "mosquitto.pid").read_text())
    return 0


async def until_listening(world: World) -> None:
    while True:
        with suppress(ConnectionRefusedError):
            await world.open(world.device)
            return


async def test_garbage_never_replaces_the_rules_in_force(world: World) -> None:
    broker, rules = managed(world), world.home.files.folder / "rules"
    await broker.govern(SITES_ALONE)
    good = rules.read_bytes()
    device = await world.let_in(world.device, "prod:d1")

    for damage in (b"", b"garbage", good[:-5], good.replace(b"allow subscribe", b"allow everything")):
        rules.write_bytes(damage)
        with pytest.raises(GuardRefusedError):
            await broker._ask("rules")  # the driver itself never writes such a file
        os.kill(pid_of(world), signal.SIGHUP)
        assert await device.subscribe(*ASKED) == BY_SITES


async def test_a_broker_that_starts_alone_has_the_last_rules(world: World) -> None:
    await managed(world).govern(SITES_ALONE)
    before = pid_of(world)

    os.kill(before, signal.SIGKILL)
    await until(lambda: pid_of(world) not in {0, before})

    await until_listening(world)
    device = await world.let_in(world.device, "prod:d1")
    assert await device.subscribe(*ASKED) == BY_SITES


async def test_rules_that_a_broker_did_not_take_are_in_doubt(world: World) -> None:
    broker = managed(world)
    await broker.govern(SITES_ALONE)
    (world.home.files.folder / "rules").unlink()
    (world.home.files.folder / "rules").mkdir()

    with pytest.raises(FleetError, match="rules"):
        await broker.govern({})

    assert "rules" in await broker.doubtful()
