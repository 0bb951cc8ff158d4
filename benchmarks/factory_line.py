"""What a unit costs on the factory line: bytes, calls and time, on clean and on noisy wires.

Method: both real halves of the factory link, the station's ledger on disk, and certificates of a real fleet
(`fleet init`, asked on its socket; its host is `fleet.example.org`, ids have 10 characters). The wire is
simulated: every bit is turned over with the given probability, in both directions, from a fixed seed; time
is that of the bytes at 115200 baud (10 bits a byte) and of the station's time-outs; the device answers at
once. Bytes are those on the wire, both ways, delimiters and repeats included. A unit passes if its first
session ends committed; asking who is there (HELLO), which a station does for ever, begins no new pass.
"Station signature" is INSTALL with `sg` and `sc`: each unit verifies it, with an anchor of its own.

Run: python -m benchmarks.factory_line [--units 100]
"""

import argparse
import asyncio
import secrets
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.framing import Framing
from fleet.home import Home
from fleet.ra.authority.initialise import Plan, initialise
from fleet.service import Listeners, running
from fleet.station.keeping.ledger import Ledger
from fleet.station.link.pace import Pace
from fleet.station.link.session import Session
from fleet.station.link.steps import Step
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.way import AdminSocket
from tests.factory_floor import MemoryUnit, Wire, run_session

BAUD = 115200
NOISE = (0.0, 1e-4, 5e-4, 1e-3)
GOAL_BYTES = 5000
GOAL_CALLS = 15
GOAL_NOISE = 5e-4
STATION = "local"
_PLAN = Plan(fleet="acme", domains=("prod",), hosts=("fleet.example.org",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One unit, from HELLO to the end of its first session."""

    passed: bool
    octets: int
    calls: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All units of one framing at one bit error rate."""

    framing: Framing
    noise: float
    runs: tuple[Run, ...]

    @property
    def passed_percent(self) -> float:
        return 100 * sum(run.passed for run in self.runs) / len(self.runs)

    @property
    def is_met(self) -> bool:
        """Whether the row keeps the goals; one that none is set for does."""
        if self.noise > GOAL_NOISE:
            return True
        is_cheap = all(run.octets <= GOAL_BYTES and run.calls <= GOAL_CALLS for run in self.runs)
        counts = self.noise == 0 and self.framing is Framing.COBS
        return self.passed_percent == 100 and (is_cheap or not counts)

    def __str__(self) -> str:
        octets = [run.octets for run in self.runs]
        calls = [run.calls for run in self.runs]
        seconds = [run.seconds for run in self.runs]
        return (
            f"{self.framing:7}{self.noise:8.0e}{len(self.runs):7}{self.passed_percent:9.1f} %"
            f"{statistics.mean(octets):9.0f}{max(octets):8}{statistics.mean(calls):9.0f}{max(calls):7}"
            f"{statistics.mean(seconds):9.2f}{max(seconds):8.2f}   {'met' if self.is_met else 'MISSED'}"
        )


class Bench:
    """A station with its ledger and its authority."""

    def __init__(self, identity: StationIdentity, clerk: Clerk, anchors: tuple[bytes, ...]) -> None:
        self._identity = identity
        self._clerk = clerk
        self._anchors = anchors
        self._units = 0

    async def make(self, framing: Framing, noise: float) -> Run:
        """Provision one new unit."""
        self._units += 1
        unit = MemoryUnit(hardware_id=f"hw-{self._units}", anchors=self._anchors)
        wire = Wire(unit, noise=noise, seed=self._units, baud=BAUD)
        step = Step.SILENT
        while step is Step.SILENT:
            session = Session(
                identity=self._identity,
                pace=Pace(baud=BAUD),
                randomness=secrets.token_bytes,
                framings=(framing,),
            )
            step = (await run_session(session, wire, self._clerk.decide)).step
        passed = step is Step.COMMITTED and unit.commits == 1
        return Run(passed=passed, octets=wire.bytes, calls=wire.requests, seconds=wire.seconds)


async def measure(units: int) -> list[Row]:
    """Return a row for each framing and bit error rate."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "fleet"
        made = await initialise(root, _PLAN, now=now(), randomness=secrets.token_bytes, work_factor=4)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(root, listeners=Listeners.ADMIN_ONLY))
            bench = await open_bench(stack, made.home, Path(folder))
            rows = []
            for framing, noise in combinations():
                runs = [await bench.make(framing, noise) for _ in range(units if noise else 20)]
                rows.append(Row(framing=framing, noise=noise, runs=tuple(runs)))
                print(rows[-1], flush=True)
            return rows


async def open_bench(stack: AsyncExitStack, home: Home, folder: Path) -> Bench:
    pem = home.server_trust.read_bytes()
    anchors = tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))
    server = AdminSocket(path=home.admin_socket, station=STATION)
    enroller = await stack.enter_async_context(HttpEnroller.opened(server, servers=anchors))
    files = home.station(STATION)
    identity = StationIdentity.load(files.certificate, files.key)
    opening = Ledger.opened(folder / "ledger.db", clock=now, identity=identity)
    ledger = await stack.enter_async_context(opening)
    return Bench(identity, Clerk(ledger=ledger, enroller=enroller, ids=IdRule(prefix="line3-")), anchors)


def combinations() -> Iterator[tuple[Framing, float]]:
    for framing in Framing:
        for noise in NOISE:
            yield framing, noise


def now() -> datetime:
    return datetime.now(UTC)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what a unit costs on the factory line.")
    parser.add_argument("--units", type=int, default=100, help="units on each noisy wire (100)")
    arguments = parser.parse_args()
    print((__doc__ or "").split("Run:")[0])
    print(
        f"goals: COBS without noise at most {GOAL_BYTES} bytes and {GOAL_CALLS} calls a unit;"
        f" first pass 100 % up to {GOAL_NOISE:.0e} on both framings\n"
    )
    print("framing   noise  units    passed    bytes     max    calls    max  seconds     max   goals")
    rows = asyncio.run(measure(arguments.units))
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
