"""One real home for all, a copy of its database for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.desk import Desk, at_desk
from tests.homes import FleetHome, make_home


@pytest.fixture(scope="session")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("homes") / "home")


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_desk(fleet_home, tmp_path) as opened:
        yield opened
