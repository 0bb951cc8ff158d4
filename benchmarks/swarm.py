"""Ten thousand devices at one server: enrolled, connected, renewed in waves, and back after a broker's fall.

    python -m benchmarks.swarm [--agents 10000] [--rate 1800]            (needs Mosquitto and gcc)

Method: `fleet serve` with Mosquitto and the guard, in processes of their own, on loopback. The devices are
one more process: each is the real agent (its lifecycle, keys, requests, and the wire's messages) with a TLS
connection of its own by its own certificate; its disk is memory, and MQTT is spoken by a client without a
thread. Nothing is issued ahead. After the pilot, two in a hundred devices of the next wave cannot make
another key: the rollout has to halt by itself. Then those are well again, and all are renewed, as many a
minute as --rate says: who is told faster than server and broker work waits, and may give up the request and
ask again. Last, the broker is killed (SIGKILL), and all come back by their own back-off (5 s and doubling,
full jitter).
CPU is user and system time from /proc of the swarm, the server and the broker.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from device_agent.agent import ClaimFiles
from device_agent.wire.pace import FIRST_WAIT
from device_agent.wire.secret import Secret
from fleet.broker.mosquitto import mosquitto_available
from fleet.home import Home
from tests.live import make_live_home
from tests.swarm.crowd import Place, Swarm, swarm_at
from tests.swarm.ways import Mode

PILOT_SHARE, WAVE_SHARE, FAILING_SHARE = 0.01, 0.25, 0.02
_CODES_AT_ONCE = 500
_READY_SECONDS = 60
_MORE = """
[acts]
devices = 1000000
percent = 100
[rollouts]
most_per_minute = 60000
"""
_PLAN = """
[rollout]
name = "{name}"
select = "all"
waves = {waves}
rate_per_minute = {rate}
[gate]
updated = 0.9
failed = 0.01
patience = "300s"
soak = "0s"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One phase: how many devices went through it, in what time, and what it cost each process."""

    name: str
    devices: int
    seconds: float
    cpu: tuple[float, ...]
    """Seconds of the swarm, the server, and the broker."""

    def __str__(self) -> str:
        each = " | ".join(f"{cpu / self.devices * 1000:8.1f}" for cpu in self.cpu)
        return (
            f"| {self.name:<34} | {self.devices:7} | {self.seconds:7.1f} |"
            f" {self.devices / self.seconds:8.0f} | {each} |"
        )


@dataclass(kw_only=True)
class Bench:
    """A server that runs, and what was measured."""

    home: Home
    server: int
    rate: int
    """Devices that a rollout tells a minute."""
    rows: list[Row] = field(default_factory=list)

    def fleet(self, *arguments: str) -> object:
        """Run a command of ours, and return what it prints."""
        command = [str(Path(sys.executable).parent / "fleet"), *arguments, "--home", str(self.home.root)]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 7):
            raise RuntimeError(f"fleet {' '.join(arguments[:2])}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    @property
    def broker(self) -> int:
        return int(json.loads((self.home.broker / "mosquitto.json").read_text())["pid"])

    @contextmanager
    def measured(self, name: str, devices: int) -> Iterator[None]:
        """Note what the body takes."""
        pids = (os.getpid(), self.server, self.broker)
        began, before = time.monotonic(), [cpu_seconds(pid) for pid in pids]
        yield
        cpu = tuple(cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True))
        self.note(Row(name=name, devices=devices, seconds=time.monotonic() - began, cpu=cpu))

    def note(self, row: Row) -> None:
        """Keep a row, and say it."""
        self.rows.append(row)
        print(row, flush=True)


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process (proc(5), fields 14 and 15)."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Return what of a process is in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@asynccontextmanager
async def serving(home: Home, *, rate: int) -> AsyncIterator[Bench]:
    """Run the server of a home as a process of its own."""
    program = str(Path(sys.executable).parent / "fleet")
    with (home.root / "serve.log").open("wb") as log:
        server = await asyncio.create_subprocess_exec(
            program, "serve", "--home", str(home.root), stdout=asyncio.subprocess.PIPE, stderr=log
        )
        try:
            assert server.stdout is not None
            async with asyncio.timeout(_READY_SECONDS):
                while not (line := await server.stdout.readline()).startswith(b"ready"):
                    if not line:
                        raise RuntimeError((home.root / "serve.log").read_text())
            yield Bench(home=home, server=server.pid, rate=rate)
        finally:
            if server.returncode is None:
                server.terminate()
            await server.wait()


def place_of(home: Home) -> Place:
    """Return where devices enroll."""
    claim = home.public_claim("prod")
    endpoints = json.loads(home.endpoints.read_text())
    return Place(
        bootstrap_port=endpoints["mqtt_bootstrap"]["port"],
        trust_pem=home.server_trust.read_text(),
        claim=ClaimFiles(certificate=claim.certificate, key=claim.key),
    )


def codes_of(bench: Bench, names: Sequence[str]) -> dict[str, Secret]:
    """Have a code made for each device."""
    found: dict[str, Secret] = {}
    for first in range(0, len(names), _CODES_AT_ONCE):
        named = [part for name in names[first : first + _CODES_AT_ONCE] for part in ("--device", name)]
        made = bench.fleet("claim", "create", "--domain", "prod", *named)
        assert isinstance(made, list)
        found |= {one["device_id"]: Secret(one["code"]) for one in made}
    return found


async def measure(bench: Bench, agents: int) -> None:
    """Take the swarm through all phases."""
    names = [f"swarm-{number:06}" for number in range(agents)]
    codes = await asyncio.to_thread(codes_of, bench, names)
    async with swarm_at(place_of(bench.home), first_wait=FIRST_WAIT) as swarm:
        with bench.measured("enroll: code, certificate, confirm", agents):
            await swarm.enroll(codes)
        with bench.measured("connect: mTLS, subscribe, state", agents):
            await swarm.connect()
        held = ", ".join(f"{resident_mb(pid):.0f}" for pid in (os.getpid(), bench.server, bench.broker))
        print(f"  memory of swarm, server, broker: {held} MB", flush=True)
        await roll_out_with_failures(bench, swarm)
        await renew_all(bench, swarm)
        await lose_broker(bench, swarm)


async def plan(bench: Bench, name: str, waves: Sequence[str]) -> None:
    """Save a plan."""
    file = bench.home.root / f"{name}.toml"
    file.write_text(_PLAN.format(name=name, waves=json.dumps(list(waves)), rate=bench.rate))
    await asyncio.to_thread(bench.fleet, "rollout", "plan", str(file))


async def ended(bench: Bench, name: str) -> dict[str, object]:
    """Wait until a rollout runs no more; return how it stands."""
    while True:
        found = await asyncio.to_thread(bench.fleet, "rollout", "status", name)
        assert isinstance(found, dict)
        if found["state"] != "running":
            return found
        await asyncio.sleep(1)


async def roll_out_with_failures(bench: Bench, swarm: Swarm) -> None:
    """Roll out in waves, with failures after the pilot; it must halt by itself."""
    pilot, wave = round(len(swarm) * PILOT_SHARE), round(len(swarm) * WAVE_SHARE)
    await plan(bench, "halts", (str(pilot), str(wave), "rest"))
    second = await asyncio.to_thread(bench.fleet, "rollout", "devices", "halts", "--wave", "2")
    assert isinstance(second, list)
    failing = [one["device_id"] for one in second[:: round(1 / FAILING_SHARE)]]
    swarm.fail(failing, Mode.KEYLESS)
    before = {agent.device_id: agent.serial for agent in swarm}
    with bench.measured("rollout until it halts", pilot + wave):
        await asyncio.to_thread(bench.fleet, "rollout", "start", "halts")
        found = await ended(bench, "halts")
    moved = sum(agent.serial != before[agent.device_id] for agent in swarm)
    print(
        f"  {found['state']} in wave {found['wave']}: {found['reason']}; {moved} of {len(swarm)} were renewed"
    )
    if found["state"] != "halted":
        raise RuntimeError("it did not halt")
    swarm.come_back(*failing)
    await asyncio.to_thread(bench.fleet, "rollout", "abandon", "halts")


async def renew_all(bench: Bench, swarm: Swarm) -> None:
    """Roll out to everybody, behind a pilot of one."""
    before = {agent.device_id: agent.serial for agent in swarm}
    await plan(bench, "everybody", ("1", "rest"))
    with bench.measured("rollout to all in one wave", len(swarm)):
        await asyncio.to_thread(bench.fleet, "rollout", "start", "everybody")
        await swarm.until(lambda agent: agent.serial != before[agent.device_id] and agent.is_online)


async def lose_broker(bench: Bench, swarm: Swarm) -> None:
    """Kill the broker; the server starts another, and all come back."""
    before = {agent.device_id: agent.connections for agent in swarm}
    own, server, began = os.getpid(), bench.server, time.monotonic()
    cpu = [cpu_seconds(own), cpu_seconds(server)]
    os.kill(bench.broker, signal.SIGKILL)
    await swarm.until(lambda agent: agent.connections > before[agent.device_id] and agent.is_online)
    used = (cpu_seconds(own) - cpu[0], cpu_seconds(server) - cpu[1], cpu_seconds(bench.broker))
    seconds = time.monotonic() - began
    bench.note(Row(name="reconnect after the broker's fall", devices=len(swarm), seconds=seconds, cpu=used))


def main() -> int:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=1800)
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    if (reason := mosquitto_available()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        home = make_live_home(Path(folder) / "home", driver="mosquitto").home
        home.config.write_text(home.config.read_text() + _MORE)
        columns = ("phase" + " " * 29, "devices", "seconds", "a second", "swarm ms", "server ms", "broker ms")
        print(f"| {' | '.join(columns)} |")
        print(f"|{'|'.join('-' * (len(one) + 1) + ':' for one in columns)}|", flush=True)

        async def run() -> None:
            async with serving(home, rate=given.rate) as bench:
                await measure(bench, given.agents)

        asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
