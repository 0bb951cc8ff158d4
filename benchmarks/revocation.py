"""How long a revoked session lives on: Mosquitto with the guard, many sessions connected.

Method: real TLS clients, each with a certificate of its own, connect to one Mosquitto over loopback. Then
devices are revoked one after another, in random order, as the server does it: `change` of the driver, which
orders the guard and writes the journal (fsync). Two times are taken from the moment of the order:
"client" until the client sees its socket closed, "receipt" until the driver has its measured cut-off. All
of it shares this machine: broker, driver and clients.

Run: python -m benchmarks.revocation [--sessions 1000] [--revocations 500]
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from fleet.broker.mosquitto import MosquittoBroker, mosquitto_available
from fleet.model import AllowlistChange, AllowlistEntry
from tests.broker_home import BrokerHome
from tests.broker_world import mosquitto
from tests.mqtt import MqttClient
from tests.pki import Pair, entry_of

GOAL_P99_MS = 100.0


class Connected:
    """One device, connected, and when its connection was closed."""

    def __init__(self, entry: AllowlistEntry, client: MqttClient) -> None:
        self.entry = entry
        self.client = client
        self.closed_at = 0.0

    async def watch(self) -> None:
        with suppress(OSError):
            await self.client.reader.read()
        self.closed_at = time.perf_counter()


async def measure(sessions: int, revocations: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds until the client's end, and until the receipt, of each revocation."""
    with tempfile.TemporaryDirectory() as folder:
        home = BrokerHome(Path(folder))
        async with mosquitto(home) as broker:
            pairs = [home.pki.device(f"d{number}") for number in range(sessions)]
            entries = [entry_of(pair, f"prod:d{number}") for number, pair in enumerate(pairs)]
            await broker.replace(home.allowlist(*entries))
            started = time.perf_counter()
            port = broker.endpoints.operational_port
            devices = [
                await connect(home, port, pair, entry) for pair, entry in zip(pairs, entries, strict=True)
            ]
            print(f"{sessions} sessions connected in {time.perf_counter() - started:.1f} s", file=sys.stderr)
            return await revoke(broker, devices, revocations)


async def connect(home: BrokerHome, port: int, pair: Pair, entry: AllowlistEntry) -> Connected:
    client = await home.open(pair, port=port)
    if await client.connect(entry.name, keepalive_s=0) != 0:
        raise SystemExit(f"{entry.name} was not let in")
    return Connected(entry, client)


async def revoke(
    broker: MosquittoBroker, devices: list[Connected], revocations: int
) -> tuple[list[float], list[float]]:
    to_client: list[float] = []
    to_receipt: list[float] = []
    async with asyncio.TaskGroup() as group:
        watches = {device.entry.name: group.create_task(device.watch()) for device in devices}
        await asyncio.sleep(0)
        for number, device in enumerate(random.sample(devices, revocations)):
            started = time.perf_counter()
            cut_offs = await broker.change(AllowlistChange(sequence=2 + number, removed=(device.entry,)))
            await watches[device.entry.name]
            to_client.append((device.closed_at - started) * 1000)
            to_receipt += [cut.cut_off_ms for cut in cut_offs]
        for device in devices:
            device.client.writer.transport.abort()
    return to_client, to_receipt


def row(name: str, values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return f"| {name:<8} | {cuts[49]:8.2f} | {cuts[94]:8.2f} | {cuts[98]:8.2f} | {max(values):8.2f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Time from a revocation to the end of a live session.")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--revocations", type=int, default=500)
    arguments = parser.parse_args()
    reason = mosquitto_available()
    if reason is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    revocations = min(arguments.revocations, arguments.sessions)
    to_client, to_receipt = asyncio.run(measure(arguments.sessions, revocations))
    print(f"\n{arguments.sessions} live sessions, {revocations} revoked one after another; milliseconds\n")
    print("| until    |      p50 |      p95 |      p99 |  longest |")
    print("|----------|----------|----------|----------|----------|")
    print(row("client", to_client))
    print(row("receipt", to_receipt))
    p99 = statistics.quantiles(to_client, n=100, method="inclusive")[98]
    kept = p99 < GOAL_P99_MS
    print(f"\ngoal: p99 under {GOAL_P99_MS:.0f} ms at the client: {'kept' if kept else 'missed'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
