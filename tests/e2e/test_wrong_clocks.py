"""Real agents on machines whose clock stands in 1970, is a year ahead or jumps, with the whole service."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from fleet.ra.people.claims import CodeOrder, create_codes
from fleet.service import running
from fleet.store.devices import load_device
from tests.homes import FleetHome
from tests.live import LiveFleet, configure, live, make_live_home
from tests.waiting import until

pytestmark = pytest.mark.needs("mosquitto", "gcc", "faketime")

YEAR_AHEAD = "+365d"
NO_CLOCK = "@1970-01-01 00:00:09"
"""The clock begins there in each process, as at each boot without a battery."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("clocks") / "home", driver="mosquitto")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def library() -> str:
    """Return the library by which processes see another clock."""
    shown = subprocess.run(
        ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    return shown.stdout.strip()


@dataclass(kw_only=True)
class Machine:
    """A device whose clock is what its file says, while it runs too."""

    fleet: LiveFleet
    device_id: str
    library: str

    @property
    def state(self) -> Path:
        return self.fleet.folder / f"state-{self.device_id}"

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "LD_PRELOAD": self.library,
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_clock(self, text: str) -> None:
        written = self._clock.with_suffix(".new")
        written.write_text(text + "\n")
        written.replace(self._clock)

    async def call(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return await asyncio.to_thread(
            subprocess.run,
            self._command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def told(self, *arguments: str) -> Mapping[str, object]:
        called = await self.call(*arguments, "--json")
        assert called.returncode == 0, called.stderr
        members: dict[str, object] = json.loads(called.stdout)
        return members

    async def connected(self) -> Mapping[str, object]:
        """Return the status once it is connected."""
        async with asyncio.timeout(30):
            while not (status := await self.told("status"))["connected"]:
                pass
        return status

    async def enroll(self) -> None:
        identity = Identity(domain="prod", device_id=self.device_id)
        order = CodeOrder(identities=(identity,), actor="operator:test", lifetime=timedelta(days=1))
        (made,) = await create_codes(self.fleet.context, order)
        code = self.fleet.folder / f"code-{self.device_id}"
        code.write_text(made.code.reveal() + "\n")
        claim = self.fleet.home.home.public_claim("prod")
        port = self.fleet.context.endpoints.mqtt_bootstrap_port
        await self.told(
            *("enroll", "--mqtt", f"localhost:{port}", "--device", self.device_id),
            *("--code-file", str(code), "--trust", str(self.fleet.home.home.server_trust)),
            *("--claim", f"{claim.certificate},{claim.key}"),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the agent, connected and with the time asked for."""
        with (self.state.parent / f"{self.device_id}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command("run"), env=self.environment, stderr=log
            )
        try:
            await until((self.state / "agent.sock").exists)
            await until((self.state / "clock").exists)
            yield
        finally:
            process.terminate()
            await process.wait()
        assert process.returncode == 0

    async def certificates(self) -> int:
        identity = Identity(domain="prod", device_id=self.device_id)
        device = await self.fleet.context.store.read(load_device, identity)
        assert device is not None
        return len(device.certificates)

    @property
    def _clock(self) -> Path:
        return self.fleet.folder / f"clock-{self.device_id}"

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "device_agent.cli", "--state", str(self.state), *arguments]


def is_now(text: object) -> bool:
    return abs(datetime.fromisoformat(str(text)) - datetime.now(UTC)) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("length", "why"),
    [(timedelta(minutes=30), "is below the floor"), (timedelta(hours=5), "is not valid at this time")],
    ids=["minutes", "hours"],
)
async def test_a_server_that_is_behind_is_not_believed(
    home: FleetHome, tmp_path: Path, library: str, length: timedelta, why: str
) -> None:
    def behind() -> datetime:
        return datetime.now(UTC) - length

    async with live(home, tmp_path) as fleet:
        machine = Machine(fleet=fleet, device_id=f"behind-{length.seconds}", library=library)
        machine.set_clock(NO_CLOCK)
        await machine.enroll()
        async with machine.running():
            first = await machine.connected()
        ports = {"mqtt_port": fleet.context.endpoints.mqtt_port}
    configure(home.home.config, driver="mosquitto", ports=ports)
    async with running(home.home.root, clock=behind) as service:
        machine.fleet = LiveFleet(home=home, service=service, folder=tmp_path)
        async with machine.running():
            status = await machine.connected()
        assert is_now(first["time"])
        assert is_now(status["time"])
        assert status["time_source"] == "floor"
        log = (tmp_path / f"{machine.device_id}.log").read_text()
        assert why in log


@pytest.mark.parametrize(("name", "clock"), [("no-clock", NO_CLOCK), ("ahead", YEAR_AHEAD)])
async def test_a_device_with_a_wrong_clock_enrolls_renews_and_knows_the_time(
    fleet: LiveFleet, library: str, name: str, clock: str
) -> None:
    machine = Machine(fleet=fleet, device_id=name, library=library)
    machine.set_clock(clock)
    await machine.enroll()
    enrolled = await machine.told("status")
    assert (enrolled["time_source"], enrolled["expired"]) == ("floor", False)
    async with machine.running():
        status = await machine.told("status")
        assert (status["time_source"], status["expired"], status["connected"]) == ("signed", False, True)
        assert is_now(status["time"])
        await machine.told("renew")
    after = await machine.told("status")
    assert after["serial"] != status["serial"]
    assert await machine.certificates() == 2
    doctor = await machine.call("doctor")
    assert "BAD clock: the system's clock is not believed" in doctor.stdout
    assert "ok  broker" in doctor.stdout, doctor.stdout


async def test_a_clock_that_jumps_while_the_agent_runs_moves_no_renewal(
    fleet: LiveFleet, library: str
) -> None:
    machine = Machine(fleet=fleet, device_id="jumps", library=library)
    machine.set_clock("+0")
    await machine.enroll()
    sources = []
    async with machine.running():
        for clock in ("+0", YEAR_AHEAD, "-3000d", "+0"):
            machine.set_clock(clock)
            status = await machine.told("status")
            sources.append(status["time_source"])
            assert is_now(status["time"])
            assert not status["expired"]
    assert sources == ["system", "signed", "signed", "system"]
    machine.set_clock(YEAR_AHEAD)
    async with machine.running():
        assert (await machine.connected())["expired"] is False
    assert await machine.certificates() == 1


async def test_a_machine_whose_clock_is_right_has_nothing_to_complain_of(
    fleet: LiveFleet, library: str
) -> None:
    machine = Machine(fleet=fleet, device_id="right", library=library)
    machine.set_clock("+0")
    await machine.enroll()
    assert (await machine.told("status"))["time_source"] == "system"
    assert "ok  clock: the system's clock is believed" in (await machine.call("doctor")).stdout
