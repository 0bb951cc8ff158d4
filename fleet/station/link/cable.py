"""A serial cable without hardware: two ptys joined crosswise, with as much noise as wanted.

For demonstrations and tests. It carries bytes on the running event loop and drops what nobody reads,
as a wire does.
"""

import asyncio
import math
import os
import random
import tty
from types import TracebackType
from typing import Self

_READ_BYTES = 4096
_BITS = 8


class Cable:
    """`with Cable(noise=1e-4) as cable:` gives `cable.station_port` and `cable.device_port`.

    `noise` is the probability that a bit arrives turned over; `seed` makes it the same each time.
    """

    def __init__(self, *, noise: float = 0.0, seed: int = 0) -> None:
        self._masters: list[int] = []
        self._slaves: list[int] = []
        self._noise = Noise(noise, seed=seed)
        self._is_joined = True
        self.station_port = ""
        self.device_port = ""

    def __enter__(self) -> Self:
        for _ in range(2):
            master, slave = os.openpty()
            # Held open here, so that the master goes on when nobody else has the other side open.
            tty.setraw(slave)
            os.set_blocking(master, False)
            self._masters.append(master)
            self._slaves.append(slave)
        self.station_port, self.device_port = (os.ttyname(slave) for slave in self._slaves)
        loop = asyncio.get_running_loop()
        first, second = self._masters
        loop.add_reader(first, self._carry, first, second)
        loop.add_reader(second, self._carry, second, first)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        for master in self._masters:
            loop.remove_reader(master)
        for descriptor in (*self._masters, *self._slaves):
            os.close(descriptor)

    def cut(self) -> None:
        """Let no byte through, either way."""
        self._is_joined = False

    def join(self) -> None:
        """Let bytes through again."""
        self._is_joined = True

    def _carry(self, source: int, target: int) -> None:
        try:
            octets = os.read(source, _READ_BYTES)
            if self._is_joined:
                os.write(target, self._noise.spoil(octets))
        except BlockingIOError:
            return


class Noise:
    """Turns bits over, each with the same probability, independently of the others."""

    def __init__(self, probability: float, *, seed: int) -> None:
        self._probability = probability
        # Not for secrets: the same seed must give the same noise.
        self._random = random.Random(seed)  # noqa: S311 - noise on a line, and the same each time
        self._clean_bits = self._gap()

    def spoil(self, octets: bytes) -> bytes:
        """Return the octets as they arrive."""
        if not self._probability:
            return octets
        spoilt = bytearray(octets)
        at = self._clean_bits
        while at < len(spoilt) * _BITS:
            spoilt[at // _BITS] ^= 1 << at % _BITS
            at += 1 + self._gap()
        self._clean_bits = at - len(spoilt) * _BITS
        return bytes(spoilt)

    def _gap(self) -> int:
        """Bits until the next wrong one: geometric, so that clean stretches cost nothing."""
        if not self._probability:
            return 0
        return int(math.log(1.0 - self._random.random()) / math.log1p(-self._probability))
