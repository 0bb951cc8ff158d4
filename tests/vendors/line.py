"""A line in memory to a device of other people, and a pty to it for programs of its maker."""

import asyncio
import os
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from fleet.station.link.port import UnpluggedError


class Unit(Protocol):
    """A device: what came over its line goes in, what it says comes out."""

    def feed(self, octets: bytes) -> bytes: ...

    def power_cycle(self) -> None:
        """Forget what is not in flash."""
        ...


@dataclass
class MemoryLine:
    """A `Line` to a device. It is cut at the exchange `cut_at`, before or after the device heard it."""

    unit: Unit
    cut_at: int | None = None
    cuts_before: bool = True
    spoil: Callable[[bytes], bytes] = field(default=lambda octets: octets)
    exchanges: int = 0
    _coming: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)

    async def read(self) -> bytes:
        return await self._coming.get()

    async def write(self, octets: bytes) -> None:
        self.exchanges += 1
        is_cut = self.exchanges == self.cut_at
        if is_cut and self.cuts_before:
            raise UnpluggedError("the port went away")
        answer = self.spoil(self.unit.feed(octets))
        if is_cut:
            raise UnpluggedError("the port went away")
        if answer:
            self._coming.put_nowait(answer)


@contextmanager
def at_pty(unit: Unit) -> Iterator[str]:
    """Put a device behind a pty for a program that opens ports itself, on a thread of its own."""
    master, slave = os.openpty()
    tty.setraw(slave)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                octets = os.read(master, 4096)
            except OSError:
                return
            answer = unit.feed(octets)
            while answer:
                answer = answer[os.write(master, answer) :]

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        ended.set()
        os.write(slave, b"\0")
        thread.join(timeout=5)
        os.close(slave)
        os.close(master)
