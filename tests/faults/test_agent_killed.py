"""A real agent process is killed at a call that writes, with keys in files and in a token: it goes on."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from device_agent.agent import Agent, MqttEnrollment
from device_agent.config import Settings
from device_agent.keys.place import open_keys
from fleet.core import lifecycle
from tests.e2e.test_agent_fleet import device_of, enrollment, settings
from tests.homes import FleetHome
from tests.killing import Lives, lives
from tests.live import LiveFleet, live, make_live_home
from tests.tokens import SoftHsm

pytestmark = pytest.mark.needs("gcc", "softhsm2-util")

EVERY = 1 if "FAULT_SEEDS" in os.environ else 16
"""`make faults` kills at each call; else at so many apart."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("killed") / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.fixture(params=["file:", "token"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param != "token":
        yield request.param
        return
    with SoftHsm.at(tmp_path / "softhsm") as hsm:
        yield hsm.token().uri


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A device whose process is killed."""

    folder: Path
    asked: MqttEnrollment
    place: str

    @property
    def settings(self) -> Settings:
        return replace(settings(self.folder), key_place=self.place)

    @property
    def commands(self) -> tuple[list[str], list[str]]:
        """Give the commands of a life: enroll and renew."""
        code, trust = self.folder / "code", self.folder / "trust.pem"
        assert self.asked.code is not None
        code.write_text(self.asked.code.reveal())
        trust.write_text(self.asked.trust_pem)
        state, claim = ["--state", str(self.settings.state)], self.asked.claim
        enroll = {
            "--mqtt": f"{self.asked.host}:{self.asked.port}",
            "--device": self.asked.device_id,
            "--code-file": str(code),
            "--trust": str(trust),
            "--claim": f"{claim.certificate},{claim.key}",
            "--key": self.place,
        }
        return [*state, "enroll", *(word for pair in enroll.items() for word in pair)], [*state, "renew"]

    async def require_life_goes_on(self, fleet: LiveFleet) -> None:
        with Agent.opened(self.settings) as agent:
            if agent.status().serial is None or agent.record.life.proof is not None:
                await agent.enroll_mqtt(self.asked)
            status = await agent.renew_once()
            device = await device_of(fleet, agent)
        assert lifecycle.admitted(device) == {status.serial}
        assert status.key in open_keys(self.settings.state).names()
        assert len(open_keys(self.settings.state).names()) <= 2


async def born(fleet: LiveFleet, folder: Path, name: str, place: str) -> Killed:
    made = folder / name
    made.mkdir()
    device_id = f"{name}-{uuid.uuid4().hex[:8]}"
    return Killed(folder=made, asked=await enrollment(fleet, device_id), place=place)


async def kill_at_each(fleet: LiveFleet, folder: Path, place: str, lived: Lives, *, calls: int) -> int:
    kills = 0
    for kill_at in range(0, calls, EVERY):
        device = await born(fleet, folder, f"killed-{kill_at}", place)
        ended = await lived.live(*device.commands, folder=device.folder, kill_at=kill_at)
        kills += ended.was_killed
        await device.require_life_goes_on(fleet)
    return kills


async def test_an_agent_that_is_killed_at_a_write_goes_on_and_has_one_live_certificate(
    fleet: LiveFleet, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with lives(tmp_path) as lived:
        whole = await born(fleet, tmp_path, "whole", place)
        ended = await lived.live(*whole.commands, folder=whole.folder)
        assert ended.codes == (0, 0)
        kills = await kill_at_each(fleet, tmp_path, place, lived, calls=ended.calls)
    with capsys.disabled():
        print(f" {kills} processes killed, of {ended.calls} calls that write", end="")
    assert kills >= ended.calls // EVERY
