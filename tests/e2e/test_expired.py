"""Devices that lay in a drawer, expired within grace and for long, with a whole service of that time."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_agent.core.ladder import Rung
from tests.agents import enrolled
from tests.homes import FleetHome
from tests.live import configure, live, make_live_home

pytestmark = pytest.mark.needs("mosquitto", "gcc", "faketime")

WITHIN_GRACE = "+100d"
"""A certificate is valid for 90 days, and may be renewed for 30 more."""
FOR_LONG = "+150d"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("drawer") / "home", driver="mosquitto")


@dataclass(frozen=True, kw_only=True)
class Later:
    """Everything at another time: server, broker and devices."""

    home: FleetHome
    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def at(cls, home: FleetHome, folder: Path, clock: str) -> "Later":
        shown = subprocess.run(
            ["faketime", "-f", clock, "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
        )
        fake = {
            "LD_PRELOAD": shown.stdout.strip(),
            # The monotonic clock moves along: left alone, some calls of poll(2) fail with EINVAL (0.9.10).
            "FAKETIME": clock,
        }
        return cls(home=home, folder=folder, environment={**os.environ, **fake})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        with (self.folder / "serve.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from fleet.cli import main; main()"),
                *("serve", "--home", str(self.home.home.root)),
                env=self.environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                assert await process.stdout.readline() == b"ready\n", (self.folder / "serve.log").read_text()
            yield
        finally:
            process.terminate()
            await process.wait()

    async def agent(
        self, device_id: str, *arguments: str, said: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        state = str(self.folder / f"device-{device_id}")
        return await self._run("device_agent.cli", "--state", state, *arguments, said=said)

    async def status(self, device_id: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((await self.agent(device_id, "status", "--json")).stdout)
        return found

    async def code(self, device_id: str) -> str:
        root = str(self.home.home.root)
        done = await self._run(
            "fleet.cli",
            *("claim", "create", "--home", root, "--domain", "prod"),
            "--device",
            device_id,
            "--code-only",
        )
        return done.stdout

    async def _run(self, module: str, *arguments: str, said: str = "") -> "subprocess.CompletedProcess[str]":
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())", *arguments],
            env=self.environment,
            input=said,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


async def test_an_expired_device_comes_back_by_its_old_key_and_after_its_grace_by_a_code(
    home: FleetHome, tmp_path: Path
) -> None:
    async with live(home, tmp_path) as fleet:
        async with AsyncExitStack() as stack:
            for device_id in ("d1", "d2"):
                await enrolled(fleet, stack, device_id)
        at = fleet.context.endpoints
    configure(
        home.home.config, driver="mosquitto", ports={"mqtt_port": at.mqtt_port, "https_port": at.https_port}
    )

    grace = Later.at(home, tmp_path, WITHIN_GRACE)
    async with grace.serving():
        renewed = await grace.agent("d1", "renew")
        assert renewed.returncode == 0, renewed.stderr
        assert (await grace.status("d1"))["rung"] == Rung.CERTIFICATE

    late = Later.at(home, tmp_path, FOR_LONG)
    async with late.serving():
        before = await late.status("d2")
        refused = await late.agent("d2", "renew")
        assert refused.returncode == 3, refused.stderr
        status = await late.status("d2")
        assert (status["rung"], status["rung_why"]) == (Rung.CODE, "not-current")
        assert "fleet claim create --domain prod --device d2" in str(status["needs"])
        recovered = await late.agent("d2", "recover", said=await late.code("d2"))
        assert recovered.returncode == 0, recovered.stderr
        after = await late.status("d2")
        assert (after["name"], after["rung"]) == ("prod:d2", Rung.CERTIFICATE)
        assert after["serial"] != before["serial"]
        assert (await late.agent("d1", "renew")).returncode == 0
