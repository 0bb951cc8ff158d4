"""A broker of each driver, with a list in force, for every contract that it keeps."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.broker_home import BrokerHome
from tests.broker_world import Driver, World, embedded, mosquitto, put_guard
from tests.pki import Pki

DRIVERS = [
    pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
    pytest.param("embedded"),
]


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="session")
def guard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard")


@pytest.fixture(params=DRIVERS)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, pki: Pki, guard_folder: Path
) -> AsyncIterator[World]:
    home = BrokerHome(tmp_path, pki)
    async with AsyncExitStack() as stack:
        if request.param == "mosquitto":
            put_guard(home.files.folder, from_folder=guard_folder)
            broker: Driver = await stack.enter_async_context(mosquitto(home))
        else:
            broker = await stack.enter_async_context(embedded(home))
        world = await World.of(broker, home)
        stack.push_async_callback(world.close)
        yield world
