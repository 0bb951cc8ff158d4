"""How long a changed access policy, or a changed class of one device, takes to count for live sessions.

Method: real TLS clients, each with a certificate of its own, connect to one broker over loopback; the list
holds as many more entries as asked for. Then rules are put in force again and again (`govern`), by turns with
and without one grant, and after each a device publishes to the topic of that grant: the answer must be the
one of the rules in force, or the run fails. "rules" is the time of the order until the broker follows,
"class" that of a change which moves one device to another class. All of it shares this machine.

Run: python -m benchmarks.access [--broker NAME] [--sessions 200] [--entries 100000] [--turns 100]
"""

import argparse
import asyncio
import hashlib
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fleet.grants import Action, Classes, Effect, Grant, GrantSet
from fleet.model import AllowlistChange, AllowlistEntry, Purpose
from tests.broker_home import BrokerHome
from tests.broker_world import Driver, embedded, mosquitto
from tests.mqtt import MqttClient
from tests.pki import entry_of

GOAL_MS = 1000.0
_PATTERN = "devices/{domain}/{id}/x"
_TWO_CLASSES = 2


def classes(*, open_to: int) -> Classes:
    """Return what two classes may do; one of them may hear what it publishes."""
    grants = tuple(Grant(effect=Effect.ALLOW, action=action, pattern=_PATTERN) for action in Action)
    return {
        number: GrantSet(purpose=Purpose.DEVICE, grants=grants if number == open_to else grants[1:])
        for number in (1, _TWO_CLASSES)
    }


def filler(number: int) -> AllowlistEntry:
    """Return an entry of a device that never connects."""
    return AllowlistEntry(
        issuer="ab" * 20,
        serial=f"{number:032x}",
        fingerprint=hashlib.sha256(str(number).encode()).hexdigest(),
        name=f"prod:f{number}",
        purpose=Purpose.DEVICE,
        not_after=datetime(2040, 1, 1, tzinfo=UTC),
    )


def topic_of(number: int) -> str:
    return f"devices/prod/d{number}/x"


async def require(device: MqttClient, number: int, *, opened: bool) -> None:
    """Require that what the device publishes comes back to it, or does not."""
    await device.publish(topic_of(number), b"x")
    if opened:
        await device.receive()
    elif await device.received():
        raise SystemExit("the broker answered by other rules")


async def measure(
    broker: Driver, home: BrokerHome, *, sessions: int, entries: int, turns: int
) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each change of rules, and of each change of one class."""
    pairs = [home.pki.device(f"d{number}") for number in range(sessions)]
    own = [entry_of(pair, f"prod:d{number}") for number, pair in enumerate(pairs)]
    await broker.govern(classes(open_to=1))
    await broker.replace(home.allowlist(*own, *map(filler, range(1, entries + 1))))
    devices = [await home.open(pair, port=broker.endpoints.operational_port) for pair in pairs]
    for number, device in enumerate(devices):
        assert await device.connect(f"prod:d{number}", keepalive_s=600) == 0
        assert await device.subscribe(topic_of(number)) == [1]
    rules = [await change_rules(broker, devices, turn) for turn in range(turns)]
    await broker.govern(classes(open_to=1))
    moves = [await move(broker, devices[0], own[0], turn) for turn in range(turns)]
    for device in devices:
        await device.close()
    return rules, moves


async def change_rules(broker: Driver, devices: list[MqttClient], turn: int) -> float:
    opened = bool(turn % 2)
    started = time.perf_counter()
    await broker.govern(classes(open_to=1 if opened else _TWO_CLASSES))
    took_ms = (time.perf_counter() - started) * 1000
    number = turn % len(devices)
    await require(devices[number], number, opened=opened)
    return took_ms


async def move(broker: Driver, device: MqttClient, entry: AllowlistEntry, turn: int) -> float:
    there, here = (1, _TWO_CLASSES) if turn % 2 else (_TWO_CLASSES, 1)
    change = AllowlistChange(
        sequence=2 + turn, added=(replace(entry, access=there),), removed=(replace(entry, access=here),)
    )
    started = time.perf_counter()
    await broker.change(change)
    took_ms = (time.perf_counter() - started) * 1000
    await require(device, 0, opened=there == 1)
    return took_ms


async def run(arguments: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        home = BrokerHome(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        opened = embedded(home) if arguments.broker == "embedded" else mosquitto(home)
        broker: Driver = await stack.enter_async_context(opened)
        found = await measure(
            broker, home, sessions=arguments.sessions, entries=arguments.entries, turns=arguments.turns
        )
    print(f"{arguments.broker}: {arguments.sessions} sessions, {arguments.entries} entries more on the list")
    for name, taken in zip(("rules", "class"), found, strict=True):
        ordered = sorted(taken)
        worst = ordered[-1]
        print(f"{name}: median {statistics.median(ordered):.1f} ms, worst {worst:.1f} ms of {len(ordered)}")
    return 0 if max(max(taken) for taken in found) < GOAL_MS else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--broker", choices=("mosquitto", "embedded"), default="mosquitto")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=100)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
