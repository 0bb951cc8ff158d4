"""Devices for `benchmarks.line`: many, at ptys that are as slow as 115200 baud, in a process of their own.

Each is the device's real half of the factory link with a real key, made before the clock starts. A byte
takes ten bits on the wire, both ways; what a device says is handed over as a USB adapter does it, when its
latency timer ticks. A unit that was committed leaves, and the next one is there at once.

Prints the names of the ports, one a line, then waits; after a line on its standard input the units begin to
answer, and it prints how many were committed each time that another line comes. An empty line ends it.
"""

import argparse
import asyncio
import os
import secrets
import sys
import tty
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.core.station_link import StationLink
from device_agent.wire.framing import Decoder, Frame, encode_burst
from tests.factory_floor import MemoryUnit, Slot, make_csr

_BITS_A_BYTE = 10


@dataclass
class MadeUnit(MemoryUnit):
    """A unit whose key and request were made beforehand: a device's own time is not the station's."""

    slot: Slot | None = None

    def request(self, device_id: str) -> bytes:
        if self.slot is not None:
            self.pending, self.slot = self.slot, None
        return super().request(device_id)


@dataclass
class Count:
    """What all ports did."""

    committed: int = 0
    is_open: bool = False


@dataclass
class Port:
    """The device's end of one line."""

    master: int
    units: Iterator[MadeUnit]
    count: Count
    baud: int
    tick: float
    """Of the adapter's latency timer, in seconds."""
    heard_until: float = 0.0
    said_until: float = 0.0
    link: StationLink | None = None
    decoder: Decoder = field(default_factory=Decoder)

    def hear(self) -> None:
        """Take what the station wrote, when its last bit is over the wire."""
        octets = os.read(self.master, 4096)
        loop = asyncio.get_running_loop()
        self.heard_until = max(loop.time(), self.heard_until) + len(octets) * _BITS_A_BYTE / self.baud
        loop.call_at(self.heard_until, self._arrived, octets)

    def _arrived(self, octets: bytes) -> None:
        if not self.count.is_open:
            return
        for frame in self.decoder.feed(octets):
            self._answer(frame)

    def _answer(self, frame: Frame) -> None:
        if self.link is None or self.link.is_over:
            self.link = StationLink(next(self.units))
        handled = self.link.handle(frame.message, nonce=secrets.token_bytes(16), now=datetime.now(UTC))
        if self.link.is_over:
            self.count.committed += 1
        if handled.answer is not None:
            self._say(encode_burst(handled.answer, frame.framing))

    def _say(self, octets: bytes) -> None:
        """Hand over, tick by tick, what came over the wire by then."""
        loop = asyncio.get_running_loop()
        begin = max(loop.time(), self.said_until)
        self.said_until = begin + len(octets) * _BITS_A_BYTE / self.baud
        a_tick = max(1, round(self.tick * self.baud / _BITS_A_BYTE))
        for number, offset in enumerate(range(0, len(octets), a_tick), start=1):
            loop.call_at(begin + number * self.tick, os.write, self.master, octets[offset : offset + a_tick])


def units_of(name: str, count: int) -> Iterator[MadeUnit]:
    """Return so many new units."""
    for number in range(count):
        device_id = f"{name}-{number:05d}"
        key = ec.generate_private_key(ec.SECP256R1())
        slot = Slot(device_id=device_id, key=key, csr=make_csr(key, device_id))
        yield MadeUnit(hardware_id=f"hw-{device_id}", device_id=device_id, slot=slot)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Emulate devices at throttled ptys.")
    parser.add_argument("--ports", type=int, required=True)
    parser.add_argument("--units", type=int, required=True, help="of each port")
    parser.add_argument("--name", required=True, help="what the ids begin with")
    parser.add_argument("--baud", type=int, default=115200)
    parser.add_argument("--latency-ms", type=float, default=16.0)
    arguments = parser.parse_args()
    count, loop = Count(), asyncio.get_running_loop()
    for at in range(arguments.ports):
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        units = iter(list(units_of(f"{arguments.name}-{at:03d}", arguments.units)))
        port = Port(master, units, count, arguments.baud, arguments.latency_ms / 1000)
        loop.add_reader(master, port.hear)
        print(os.ttyname(slave), flush=True)
    print(flush=True)
    while (await asyncio.to_thread(sys.stdin.readline)).strip():
        count.is_open = True
        print(count.committed, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
