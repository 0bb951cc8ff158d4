"""Asks a test jig about a unit before it is committed: a command, its exit code, and its time limit.

0 says that the unit is good. 75 (EX_TEMPFAIL), no end in time, a signal, or a command that cannot be run say
nothing of the unit: it waits. Every other code says that it is bad.
"""

import asyncio
import os
import shlex
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from fleet.errors import BadInputError
from fleet.station.link import steps
from fleet.station.link.causes import Cause

NOT_NOW = 75
_MOST_OUTPUT = 4096
_LONGEST_REASON = 200
_SILENCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Jig:
    """A command that tests a unit; it learns which from its environment, `FLEET_*`."""

    command: tuple[str, ...]
    seconds: float

    @classmethod
    def parse(cls, text: str, *, seconds: float) -> Self:
        """Read a command line; no shell runs it.

        Raises:
            BadInputError: it is none.
        """
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise BadInputError(f"the jig's command cannot be read: {error}") from error
        if not words:
            raise BadInputError("the jig's command is empty", hint="--jig '/usr/local/bin/test-unit --fast'")
        return cls(command=words, seconds=seconds)

    async def judge(self, unit: Mapping[str, str]) -> steps.Decision:
        """Return `Recorded` for a good unit, `Doubt` for a bad one, `Hold` where the jig cannot say."""
        try:
            transport, test = await asyncio.get_running_loop().subprocess_exec(
                _Test,
                *self.command,
                env=os.environ | {f"FLEET_{name.upper()}": value for name, value in unit.items()},
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return _away(f"it cannot be started: {error.strerror}")
        try:
            async with asyncio.timeout(self.seconds):
                await test.has_ended.wait()
            return await _verdict(transport.get_returncode() or 0, test)
        except TimeoutError:
            return _away(f"it took longer than {self.seconds:g} s")
        finally:
            _end(transport.get_pid())
            transport.close()
            await test.is_silent.wait()


class _Test(asyncio.SubprocessProtocol):
    """One run of a jig: the last of what it writes, and its end."""

    def __init__(self) -> None:
        self.has_ended = asyncio.Event()
        self.is_silent = asyncio.Event()
        self._kept = b""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._kept = (self._kept + data)[-_MOST_OUTPUT:]

    def process_exited(self) -> None:
        self.has_ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_silent.set()

    def last_line(self) -> str:
        """Return the last line that says something: a jig tells there why."""
        lines = self._kept.decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return "".join(sign if sign.isprintable() else "?" for sign in last[:_LONGEST_REASON])


async def _verdict(code: int, test: _Test) -> steps.Decision:
    if code == 0:
        return steps.Recorded()
    with suppress(TimeoutError):  # what it left running may hold its output open
        async with asyncio.timeout(_SILENCE_SECONDS):
            await test.is_silent.wait()
    said = test.last_line()
    why = f": {said}" if said else ""
    if code == NOT_NOW or code < 0:
        return _away(f"it ended with {code}{why}")
    return steps.Doubt(reason=f"the test jig says no (exit code {code}){why}", cause=Cause.TEST_FAILED)


def _end(leader: int) -> None:
    """End the jig with all that it started: it leads a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _away(why: str) -> steps.Hold:
    return steps.Hold(reason=f"the test jig gave no verdict: {why}", cause=Cause.JIG_AWAY)
