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
from fleet.station import steps
from fleet.station.causes import Cause

NOT_NOW = 75
_MOST_OUTPUT = 4096
_LONGEST_REASON = 200


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
            process = await asyncio.create_subprocess_exec(
                *self.command,
                env=os.environ | {f"FLEET_{name.upper()}": value for name, value in unit.items()},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return _away(f"it cannot be started: {error.strerror}")
        try:
            return await self._verdict(process)
        finally:
            _end(process)
            await process.wait()

    async def _verdict(self, process: asyncio.subprocess.Process) -> steps.Decision:
        try:
            async with asyncio.timeout(self.seconds):
                said = await _last_words(process)
                code = await process.wait()
        except TimeoutError:
            return _away(f"it took longer than {self.seconds:g} s")
        if code == 0:
            return steps.Recorded()
        if code == NOT_NOW or code < 0:
            return _away(f"it ended with {code}: {said}" if said else f"it ended with {code}")
        return steps.Doubt(
            reason=f"the test jig says no (exit code {code}){': ' if said else ''}{said}",
            cause=Cause.TEST_FAILED,
        )


async def _last_words(process: asyncio.subprocess.Process) -> str:
    """Read to the end, and return the last line: a jig tells there why."""
    kept = b""
    if process.stdout is not None:
        while octets := await process.stdout.read(_MOST_OUTPUT):
            kept = (kept + octets)[-_MOST_OUTPUT:]
    lines = kept.decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(sign if sign.isprintable() else "?" for sign in last[:_LONGEST_REASON])


def _end(process: asyncio.subprocess.Process) -> None:
    """End the jig with all that it started: it leads a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _away(why: str) -> steps.Hold:
    return steps.Hold(reason=f"the test jig gave no verdict: {why}", cause=Cause.JIG_AWAY)
