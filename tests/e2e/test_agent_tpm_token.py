"""A device whose keys are in a TPM 2.0 behind tpm2-pkcs11, on a real Mosquitto."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.keys.place import open_keys
from tests.e2e.test_agent_fleet import enrollment, settings, until
from tests.e2e.test_agent_token import live_with_keys_in, one_version
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.tpm_tokens import PROGRAMS, TpmToken, tpm_token

__all__ = ["one_version"]

pytestmark = pytest.mark.needs("mosquitto", "gcc", *PROGRAMS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("tpm-tokens") / "home", driver="mosquitto")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.fixture
def token(tmp_path: Path) -> Iterator[TpmToken]:
    with tpm_token(tmp_path / "token") as made:
        yield made


@pytest.mark.parametrize("kind", ["p256", "rsa"])
@pytest.mark.usefixtures("one_version")
async def test_a_device_lives_with_each_of_its_keys_in_the_tpm(
    fleet: LiveFleet, tmp_path: Path, token: TpmToken, kind: str
) -> None:
    await live_with_keys_in(f"{token.uri}&key-type={kind}", fleet, tmp_path)


async def test_each_generation_has_an_id_and_the_old_one_goes_after_the_next_has_connected(
    fleet: LiveFleet, tmp_path: Path, token: TpmToken
) -> None:
    with Agent.opened(replace(settings(tmp_path), key_place=token.uri)) as agent:
        first = await agent.enroll_mqtt(await enrollment(fleet, "generations"))
        async with agent.connected():
            await agent.ready()
            held = open_keys(tmp_path / "state")
            assert held.names() == (first.key,)
            second = await agent.renew()
            third = await agent.renew()
            await until(lambda: first.key not in held.names())
    assert third.key in held.names()
    assert len({first.key, second.key, third.key}) == 3
    ids = [line.split()[-1] for line in token.objects().splitlines() if line.strip().startswith("ID:")]
    assert len(set(ids)) == len(held.names())


async def test_a_device_survives_its_tpm_being_stopped(
    fleet: LiveFleet, tmp_path: Path, token: TpmToken
) -> None:
    with Agent.opened(replace(settings(tmp_path), key_place=token.uri)) as agent:
        await agent.enroll_mqtt(await enrollment(fleet, "stopped"))
        token.tpm.stop()
        async with agent.connected():
            await until(lambda: agent.status().problem == "key-store")
            with token.tpm.put_back():
                await agent.ready()
                await until(lambda: agent.status().problem is None)
