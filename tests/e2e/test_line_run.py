"""`fleet station run` on a computer of its own: bar codes, labels and results, with the server elsewhere."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from device_agent.agent import Agent
from device_agent.config import Settings
from fleet.station.link.cable import Cable
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home

PATIENCE = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("run") / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@dataclass
class Pc:
    """A computer on the line: the station's files, and nothing else of the fleet."""

    folder: Path
    server: str

    @classmethod
    def of(cls, fleet: LiveFleet, folder: Path) -> "Pc":
        folder.mkdir()
        files = fleet.home.home.station("local")
        for path in (files.certificate, files.key, fleet.home.home.server_trust):
            shutil.copy2(path, folder / path.name)
        return cls(folder, f"https://localhost:{fleet.context.endpoints.https_port}")

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """Run `fleet --server ... station ...`."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from fleet.cli import main; main()", "--server", self.server),
            *("--operator-cert", "local.crt", "--operator-key", "local.key", "--trust", "server.pem"),
            *("station", *words),
            cwd=self.folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
        )


@asynccontextmanager
async def mes() -> AsyncIterator[tuple[str, "asyncio.Queue[dict[str, str]]"]]:
    """The factory's system, which is broken at first."""
    taken: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    asked: list[str] = []

    async def take(request: web.Request) -> web.Response:
        asked.append(request.headers["Idempotency-Key"])
        if len(asked) == 1:
            return web.Response(status=500)
        taken.put_nowait(json.loads(await request.read()))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", taken
    finally:
        await runner.cleanup()


async def until(line: asyncio.subprocess.Process, wanted: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Read what a line tells until it is this."""
    assert line.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while True:
            told = json.loads(await line.stdout.readline())
            if wanted(told):
                return dict(told)


async def test_a_line_with_scanner_labels_and_results_on_a_computer_of_its_own(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    pc = Pc.of(fleet, tmp_path / "pc")
    trust = fleet.home.home.server_trust.read_text()
    with Cable() as cable:
        async with mes() as (url, results):
            line = await pc.start(
                *("run", "--jsonl", "--port", cable.station_port, "--scanner", "id", "--results-url", url),
                *("--label", "text", "--printer", f"tee -a {pc.folder}/labels.txt"),
            )
            try:
                await until(line, lambda told: told["stage"] == "waiting")
                with Agent.opened(Settings(state=tmp_path / "unit", hardware_id="hw-1")) as agent:
                    work = asyncio.ensure_future(
                        agent.enroll_serial(cable.device_port, device_id="", trust_pem=trust)
                    )
                    held = await until(line, lambda told: told["cause"] == "scan-label")
                    assert held["hardware_id"] == "hw-1"
                    assert line.stdin is not None
                    line.stdin.write(b"press-0042\n")
                    made = await until(line, lambda told: told["stage"] == "synced")
                    async with asyncio.timeout(PATIENCE):
                        await work
                        told = await results.get()
                assert (made["device_id"], made["label"]) == ("press-0042", "press-0042")
                assert (told["result"], told["label"], told["serial"]) == (
                    "pass",
                    "press-0042",
                    made["serial"],
                )
                again = await pc.start("reprint", "press-0042")
                _, said = await again.communicate()
                assert said.decode() == "the label of press-0042 is printed next\n"
                async with asyncio.timeout(PATIENCE):
                    while (pc.folder / "labels.txt").read_text().count(made["serial"]) < 2:
                        await again.wait()  # one that has ended: a turn for the others
            finally:
                line.terminate()
                await line.communicate()
    assert line.returncode == 0


async def test_what_was_never_printed_cannot_be_printed_again(fleet: LiveFleet, tmp_path: Path) -> None:
    pc = Pc.of(fleet, tmp_path / "pc")
    again = await pc.start("reprint", "nobody")
    _, said = await again.communicate()
    assert again.returncode == 4
    assert said.decode().startswith("error: no label was printed for unit nobody here\nhint: ")
