"""Espressif's esptool, as a program of its own on a port that is lent to it. Behind the extra `esp`.

What it writes is handed over in memory, never in a file: an image holds a private key.
"""

import asyncio
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fleet.errors import UsageError
from fleet.station.drivers.console import ConsoleError
from fleet.station.link.causes import Cause
from fleet.station.link.port import Lendable, UnpluggedError

_SECONDS = 120.0
_LONGEST_TALK = 256 * 1024
_MAC = re.compile(r"^MAC:\s+((?:[0-9a-f]{2}:){5}[0-9a-f]{2})\s*$", re.MULTILINE)
_CHIP = re.compile(r"^Chip type:\s+([ -~]{1,60}?)\s*$", re.MULTILINE)
_SILENT = ("No serial data received", "Failed to connect", "Wrong boot mode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A chip, and what stands in the part of its flash that was read."""

    mac: str
    kind: str
    octets: bytes


def require_esptool() -> None:
    """Refuse to begin without it; raises `UsageError`."""
    if importlib.util.find_spec("esptool") is None:
        raise UsageError("esptool is not installed", hint="pip install 'fleet-provisioning[esp]'")


class Esptool:
    """One chip on one port. `reset` says how it comes into download mode, in esptool's words."""

    def __init__(self, line: Lendable, *, baud: int, reset: str = "default-reset") -> None:
        self.runs = 0
        self._line = line
        self._options = ("--baud", str(baud), "--before", reset, "--no-stub", "--connect-attempts", "2")

    async def read(self, *, offset: int, length: int) -> Chip | None:
        """Return the chip and so many octets of its flash, or None where no chip answers.

        Raises:
            ConsoleError: it answers, and cannot be read.
            UnpluggedError: the port went away.
        """
        with _memory(b"") as file:
            is_done, talk = await self._run("read-flash", hex(offset), hex(length), file)
            octets = os.pread(int(file.rpartition("/")[2]), length, 0)
        if not is_done and any(word in talk for word in _SILENT):
            return None
        mac, kind = _MAC.search(talk), _CHIP.search(talk)
        if not is_done or mac is None or kind is None or len(octets) != length:
            raise ConsoleError("esptool cannot read the flash", cause=Cause.NOT_ANSWERING)
        return Chip(mac=mac[1], kind=kind[1], octets=octets)

    async def write(self, octets: bytes, *, offset: int) -> None:
        """Write octets, and have the chip compare their hash; raises as `read`."""
        with _memory(octets) as file:
            is_done, talk = await self._run("write-flash", "--no-compress", hex(offset), file)
        if not is_done or "Hash of data verified" not in talk:
            raise ConsoleError("esptool cannot write the flash, or finds it otherwise", cause=Cause.BAD_CABLE)

    async def _run(self, *words: str) -> tuple[bool, str]:
        self.runs += 1
        descriptor = int(words[-1].rpartition("/")[2])
        with self._line.lent() as port:
            if not os.path.exists(port):  # noqa: ASYNC240, PTH110 - one look at /dev
                raise UnpluggedError("the port went away")
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "esptool", "--port", port, *self._options, *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(descriptor,),
            )
            try:
                return await _outcome(process)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _outcome(process: asyncio.subprocess.Process) -> tuple[bool, str]:
    """Return whether the program succeeded, and what it said; its end is waited for."""
    talk = b""
    try:
        async with asyncio.timeout(_SECONDS):
            while process.stdout and (piece := await process.stdout.read(4096)):
                talk = (talk + piece)[-_LONGEST_TALK:]
            return await process.wait() == 0, talk.decode("ascii", "replace")
    except TimeoutError as error:
        raise ConsoleError("esptool does not come to an end", cause=Cause.NOT_ANSWERING) from error


@contextmanager
def _memory(octets: bytes) -> Iterator[str]:
    """Give a file in memory alone, by a path that a child sees which has its descriptor."""
    descriptor = os.memfd_create("flash", 0)
    try:
        os.write(descriptor, octets)
        yield f"/dev/fd/{descriptor}"
    finally:
        os.close(descriptor)
