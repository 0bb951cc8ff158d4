"""How many devices a minute one station makes, with 1, 32 and 128 ports at 115200 baud.

Method: a new fleet; `fleet serve` and `fleet station run` as anybody starts them, the server's store and the
station's ledger on this machine's disk, each certificate asked from the server and signed by its issuing CA.
The devices are emulated in a process of their own (`benchmarks.emulated_devices`): real messages, real keys
and proofs, on ptys that let through as many bytes as 115200 baud does, with the 16 ms latency timer of a USB
adapter. A unit that was committed is replaced by the next at once. After a warm-up, commits are counted
over a window; CPU seconds are those of each process (user and system) in that window, divided by the units.
Server, station and devices share this machine, so "devices" is CPU that a real line does not pay; "others"
is what other programs took of it meanwhile.
The goal is that of 128 ports.

Run: python -m benchmarks.line [--seconds 30] [--ports 1 32 128]
"""

import argparse
import asyncio
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet.ra.authority.initialise import Plan, initialise
from tests.live import configure

GOAL_A_MINUTE = 4000
GOAL_PORTS = 128
WARM_UP_SECONDS = 10
MOST_A_SECOND = 200
"""Units that are made ready, a second and line."""
_FLEET = (sys.executable, "-c", "from fleet.cli import main; main()")
_PLAN = Plan(fleet="acme", domains=("prod", "lab"), hosts=("localhost",))
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One window of one station."""

    ports: int
    devices: int
    seconds: float
    station: float
    """CPU seconds, as the others."""
    server: float
    emulated: float
    machine: float
    """All of the machine, whoever's."""

    @property
    def a_minute(self) -> float:
        return self.devices * 60 / self.seconds

    @property
    def is_met(self) -> bool:
        return self.ports < GOAL_PORTS or self.a_minute >= GOAL_A_MINUTE

    def __str__(self) -> str:
        own = (self.station, self.server, self.emulated)
        each = "".join(f"{1000 * cpu / max(1, self.devices):9.1f}" for cpu in own)
        busy, others = sum(own) / self.seconds, (self.machine - sum(own)) / self.seconds
        return (
            f"{self.ports:5}{self.devices:9}{self.a_minute:13.0f}   {each}{busy:11.2f}{others:9.2f}"
            f"   {'met' if self.is_met else 'MISSED'}"
        )


class Processes:
    """What is started here, and how much CPU it took."""

    def __init__(self, stack: AsyncExitStack, root: Path) -> None:
        self._stack = stack
        self._root = root

    async def serve(self) -> asyncio.subprocess.Process:
        process = await self._stack.enter_async_context(
            started(*_FLEET, "--home", str(self._root), "serve", log=self._root.parent / "serve.log")
        )
        async with asyncio.timeout(60):
            while b"ready" not in await line_of(process):
                pass
        return process

    async def devices(self, ports: int, units: int) -> tuple[asyncio.subprocess.Process, list[str]]:
        name = f"{secrets.token_hex(2)}"
        process = await self._stack.enter_async_context(
            started(
                *(sys.executable, "-m", "benchmarks.emulated_devices", "--name", name),
                *("--ports", str(ports), "--units", str(units)),
                log=self._root.parent / "devices.log",
            )
        )
        names = []
        while path := (await line_of(process)).decode().strip():
            names.append(path)
        return process, names

    async def station(self, ports: Sequence[str]) -> asyncio.subprocess.Process:
        options = [word for port in ports for word in ("--port", port)]
        return await self._stack.enter_async_context(
            started(
                *(*_FLEET, "--home", str(self._root), "station", "run", "--station", "local", *options),
                log=self._root.parent / "station.log",
                is_quiet=True,
            )
        )


@asynccontextmanager
async def started(
    *command: str, log: Path, is_quiet: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program; its talk goes into a file, and it is ended with SIGTERM."""
    with log.open("ab") as talk:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=talk if is_quiet else asyncio.subprocess.PIPE,
            stderr=talk,
        )
    try:
        yield process
    except RuntimeError as error:
        raise RuntimeError(f"{error}\n{log.read_text()[-2000:]}") from error
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    found = await process.stdout.readline()
    if not found:
        raise RuntimeError("a process ended before its time; its log tells why")
    return found


async def asked(devices: asyncio.subprocess.Process) -> int:
    """Return how many units were committed until now."""
    assert devices.stdin is not None
    devices.stdin.write(b"count\n")
    return int(await line_of(devices))


def cpu_seconds(process: asyncio.subprocess.Process) -> float:
    """Return user and system time of a process and of those children that it waited for."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[at]) for at in (11, 12, 13, 14)) / _TICKS


def machine_seconds() -> float:
    """Return the CPU seconds that all processes of this machine took."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _waiting, hard, soft = (int(word) for word in words[:7])
    return (user + nice + system + hard + soft) / _TICKS


async def measure(root: Path, *, ports: int, seconds: int) -> Row:
    """Run a line of so many ports, and return what it did in so many seconds."""
    loop = asyncio.get_running_loop()
    units = max(40, MOST_A_SECOND * (seconds + 2 * WARM_UP_SECONDS) // max(ports, 32))
    async with AsyncExitStack() as stack:
        processes = Processes(stack, root)
        server = await processes.serve()
        devices, names = await processes.devices(ports, units)
        station = await processes.station(names)
        await asked(devices)
        await asyncio.sleep(WARM_UP_SECONDS)
        watched = (station, server, devices)
        began, first = loop.time(), await asked(devices)
        before = [machine_seconds(), *(cpu_seconds(one) for one in watched)]
        await asyncio.sleep(seconds)
        last, after = await asked(devices), [machine_seconds(), *(cpu_seconds(one) for one in watched)]
        spent = [late - early for late, early in zip(after, before, strict=True)]
        return Row(
            ports=ports,
            devices=last - first,
            seconds=loop.time() - began,
            machine=spent[0],
            station=spent[1],
            server=spent[2],
            emulated=spent[3],
        )


async def measure_all(ports: Sequence[int], seconds: int) -> list[Row]:
    rows = []
    for count in ports:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "fleet"
            made = await initialise(root, _PLAN, now=datetime.now(UTC), randomness=secrets.token_bytes)
            configure(made.home.config, driver="embedded")
            rows.append(await measure(root, ports=count, seconds=seconds))
            print(rows[-1], flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how many devices a minute a station makes.")
    parser.add_argument("--seconds", type=int, default=30, help="of each window (30)")
    parser.add_argument("--ports", type=int, nargs="+", default=[1, 32, GOAL_PORTS])
    arguments = parser.parse_args()
    print((__doc__ or "").split("Run:")[0])
    print(f"goal: {GOAL_A_MINUTE} devices a minute with {GOAL_PORTS} ports; here: {os.cpu_count()} cores\n")
    print("                             CPU ms a device, of             cores busy with")
    print("ports  devices  devices/min     station   server  devices       this   others   goal")
    rows = asyncio.run(measure_all(arguments.ports, arguments.seconds))
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
