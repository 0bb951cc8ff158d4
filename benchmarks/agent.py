"""What an agent costs a device: disk, memory, idle CPU and start, each against its bound.

    python benchmarks/agent.py            (needs Mosquitto, and pip's way to packages)

Memory: a device enrolls at a real Mosquitto, then `device-agent run` is started as a process of its own,
connects, and is left alone; VmRSS and VmHWM of /proc/PID/status (proc(5)) are read after 3 s. A renewal is
then done, and they are read once more. Start: from the command to the first message at the broker, three
times, the median. Idle CPU: what all threads of that process ran in 60 s (/proc/PID/task/*/schedstat, in
nanoseconds), keepalives and all. Size: the dependencies of the base install at the versions that stand in
this environment, installed into an empty folder with pip, and `device_agent` itself; bytecode is not counted,
for a device may go without it.
"""

import asyncio
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from device_agent.agent import Agent, ClaimFiles, MqttEnrollment  # noqa: E402 - the path comes first
from device_agent.config import Settings  # noqa: E402 - as above
from device_agent.wire.secret import Secret  # noqa: E402 - as above
from tests.broker_bench import Bench, running_broker, serving  # noqa: E402 - as above
from tests.provisioner import CODE, Provisioner  # noqa: E402 - as above

MOST_RESIDENT_MB = 45.0
MOST_INSTALLED_MB = 30.0
MOST_IDLE_CPU_PERCENT = 0.1
MOST_START_SECONDS = 1.0
_SETTLE_SECONDS = 3.0
_IDLE_SECONDS = 60.0
_STARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured thing; `goal` None is for information."""

    name: str
    value: float
    unit: str
    goal: float | None = None

    @property
    def is_met(self) -> bool:
        return self.goal is None or self.value < self.goal


def resident_mb(pid: int, *, peak: bool) -> float:
    name = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status has no {name}")


def cpu_seconds(pid: int) -> float:
    times = (each.read_text().split()[0] for each in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(int, times)) / 1e9


async def measure_run(folder: Path) -> list[Row]:
    server = Provisioner()
    async with running_broker(server.pki, folder / "broker") as bench, serving(bench, server):
        server.broker = replace(server.broker, port=bench.port)
        await enroll(bench, folder / "state")
        starts = []
        for _ in range(_STARTS):
            async with started(server, folder) as (_, seconds):
                starts.append(seconds)
        async with started(server, folder) as (pid, _):
            median = sorted(starts)[_STARTS // 2]
            return [
                Row(name="start to connected", value=median, unit="s", goal=MOST_START_SECONDS),
                *await measure(pid, folder),
            ]


@contextlib.asynccontextmanager
async def started(server: Provisioner, folder: Path) -> AsyncIterator[tuple[int, float]]:
    """Run the agent; gives its process id, and how long it took until it had said something."""
    server.seen.clear()
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "device_agent.cli", "--state", str(folder / "state"), "run"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        while not server.seen:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.005)
        yield process.pid, time.monotonic() - began
    finally:
        process.terminate()
        await process.wait()


async def enroll(bench: Bench, state: Path) -> None:
    certificate, key = bench.pki.claim().write(bench.folder, "claim")
    with Agent.opened(Settings(state=state, patience=timedelta())) as agent:
        await agent.enroll(
            MqttEnrollment(
                host="localhost",
                port=bench.port,
                device_id="d1",
                trust_pem=(bench.folder / "servers.pem").read_text(),
                claim=ClaimFiles(certificate=certificate, key=key),
                code=Secret(CODE),
            )
        )


async def measure(pid: int, folder: Path) -> list[Row]:
    await asyncio.sleep(_SETTLE_SECONDS)
    idle = resident_mb(pid, peak=False)
    before = cpu_seconds(pid)
    await asyncio.sleep(_IDLE_SECONDS)
    cpu = (cpu_seconds(pid) - before) / _IDLE_SECONDS * 100
    renewing = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "device_agent.cli", "--state", str(folder / "state"), "renew"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    if await renewing.wait() != 0:
        raise RuntimeError("the renewal failed")
    return [
        Row(name="resident, connected and idle", value=idle, unit="MB", goal=MOST_RESIDENT_MB),
        Row(
            name="resident, after a renewal",
            value=resident_mb(pid, peak=False),
            unit="MB",
            goal=MOST_RESIDENT_MB,
        ),
        Row(name="peak", value=resident_mb(pid, peak=True), unit="MB"),
        Row(name="idle CPU", value=cpu, unit="%", goal=MOST_IDLE_CPU_PERCENT),
    ]


def measure_install(folder: Path) -> list[Row]:
    target = folder / "install"
    names = pinned()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(target), *names],
        check=True,
    )
    shutil.copytree(
        ROOT / "device_agent", target / "device_agent", ignore=shutil.ignore_patterns("__pycache__")
    )
    rows = [Row(name=f"  {path.name}", value=size_mb(path), unit="MB") for path in sorted(target.iterdir())]
    shown = [row for row in rows if row.value >= 0.1 and "dist-info" not in row.name]
    return [Row(name="base install", value=size_mb(target), unit="MB", goal=MOST_INSTALLED_MB), *shown]


def pinned() -> list[str]:
    """Return the base dependencies and theirs, each at the version that is installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = [name_of(one) for one in project["dependencies"]], dict[str, str]()
    while waiting:
        name = waiting.pop()
        with contextlib.suppress(ModuleNotFoundError):  # a dependency for another Python or platform
            if name not in found:
                found[name] = distribution(name).version
                needed = distribution(name).requires or []
                waiting += [name_of(one) for one in needed if "extra ==" not in one]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def name_of(requirement: str) -> str:
    """Return the project of a requirement (PEP 508)."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    if found is None:
        raise RuntimeError(f"{requirement} is no requirement")
    return found[0]


def size_mb(path: Path) -> float:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files) / 1024 / 1024


def show(rows: list[Row]) -> bool:
    print("\n| | measured | bound |\n|---|---:|---:|")
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal:g} {row.unit}{'' if row.is_met else ' MISSED'}"
        print(f"| {row.name.strip()} | {row.value:.2f} {row.unit} | {goal} |")
    return all(row.is_met for row in rows)


def main() -> int:
    print(__doc__)
    with tempfile.TemporaryDirectory() as name:
        rows = asyncio.run(measure_run(Path(name)))
        rows += measure_install(Path(name))
    return 0 if show(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
