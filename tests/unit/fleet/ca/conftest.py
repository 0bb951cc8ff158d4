"""One fleet home for all tests of the authority; they only read it."""

import pytest

from tests.homes import FleetHome, make_home


@pytest.fixture(scope="session")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("fleet") / "home")
