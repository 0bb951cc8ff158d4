"""A text console at the other end of a line: a command goes out, the lines of its answer come back.

It never trusts what comes: lines and answers have limits, what is no answer is passed over, and neither a
command nor an answer is ever put into an error or a log, for a command may carry a key.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from fleet.errors import FleetError
from fleet.station.link.causes import Cause
from fleet.station.link.port import Line

LONGEST_LINE = 8192
"""Of one line: the modem's shell echoes whole certificates."""
LONGEST_ANSWER = 64 * 1024
"""Of all that comes between a command and the end of its answer."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
"""ANSI control sequences (ECMA-48 5.4), with which shells colour and redraw their line."""
_PROMPT = re.compile(r"^(?:[\w.-]+:~\$ )+")
_ENDS = re.compile(rb"[\r\n]")
_QUIET_SECONDS = 0.1
_MOST_SETTLING_SECONDS = 1.0


class ConsoleError(FleetError):
    """The unit does not answer as it should; `cause` is what a worker is told."""

    def __init__(self, message: str, *, cause: Cause, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause


class End(Enum):
    """How an answer ended."""

    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The lines of an answer, the last of which ended it."""

    end: End
    lines: tuple[str, ...]

    def after(self, prefix: str) -> str | None:
        """Return what stands behind a prefix on the first line that has it."""
        found = (line.removeprefix(prefix) for line in self.lines if line.startswith(prefix))
        return next((rest.strip() for rest in found), None)


class Lines:
    """Cuts lines of text out of bytes; a line that is too long is dropped, whole."""

    __slots__ = ("_is_dropping", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._is_dropping = False

    @property
    def rest(self) -> str:
        """What stands on the line that is not over yet, such as a prompt."""
        return "" if self._is_dropping else _cleaned(self._rest)

    def feed(self, octets: bytes) -> list[str]:
        """Return the lines that are whole now, without escapes, prompts and empty ones."""
        *whole, last = _ENDS.split(self._rest + octets)
        if self._is_dropping and whole:
            whole, self._is_dropping = whole[1:], False
        self._rest = last
        if self._is_dropping or len(last) > LONGEST_LINE:
            self._rest, self._is_dropping = b"", True
        lines = (_cleaned(line) for line in whole if len(line) <= LONGEST_LINE)
        return [line for line in lines if line]


def _cleaned(octets: bytes) -> str:
    text = _ESCAPES.sub("", octets.decode("ascii", "replace"))
    return _PROMPT.sub("", text.replace("\0", "")).strip()


Judge = Callable[[str], End | None]
"""Tells whether a line ends the answer, and how."""


class _Hearing:
    """An answer on its way in."""

    def __init__(self, judge: Judge, *, echo: str) -> None:
        self.octets = 0
        self._judge = judge
        self._echo = echo
        self._lines: list[str] = []
        self._end: End | None = None

    def take(self, lines: list[str], *, octets: int) -> bool:
        """Take lines that came; return whether one of them has ended the answer."""
        self.octets += octets
        for line in lines:
            self._lines.append(line)
            if self._end is None and line != self._echo:
                self._end = self._judge(line)
        return self._end is not None

    @property
    def answer(self) -> Answer:
        """Return the answer, once it was ended."""
        return Answer(end=self._end or End.REFUSED, lines=tuple(self._lines))


class Console:
    """Commands and answers, one after another; `ending` closes a command.

    With a `prompt`, an answer is over when that stands on the line after the line that ended it. A line on
    which nothing comes for `quiet_seconds` has nothing more to say of what was before.
    """

    def __init__(
        self, line: Line, *, ending: str = "\r\n", prompt: str = "", quiet_seconds: float = _QUIET_SECONDS
    ) -> None:
        self.calls = 0
        self.wire_bytes = 0
        self._line = line
        self._ending = ending
        self._prompt = prompt
        self._quiet_seconds = quiet_seconds
        self._lines = Lines()

    async def ask(self, name: str, command: str, *, judge: Judge, seconds: float) -> Answer:
        """Send a command and return its answer; `name` is what errors call it.

        Raises:
            ConsoleError: no end of an answer came in so many seconds, or too much before it.
            UnpluggedError: the port went away.
        """
        await self.send(command + self._ending)
        return await self.hear(name, judge=judge, seconds=seconds, echo=command)

    async def send(self, text: str) -> None:
        """Send text as it is; raises `UnpluggedError`."""
        octets = text.encode("ascii")
        self.wire_bytes += len(octets)
        await self._line.write(octets)

    async def hear(self, name: str, *, judge: Judge, seconds: float, echo: str = "") -> Answer:
        """Return the lines up to the one that ends the answer; raises as `ask`."""
        hearing = _Hearing(judge, echo=echo)
        try:
            async with asyncio.timeout(seconds):
                while hearing.octets < LONGEST_ANSWER:
                    octets = await self._read()
                    is_over = hearing.take(self._lines.feed(octets), octets=len(octets))
                    if is_over and self._is_prompted():
                        self.calls += 1
                        return hearing.answer
        except TimeoutError as error:
            raise ConsoleError(
                f"the unit does not answer {name} within {seconds:g} seconds", cause=Cause.NOT_ANSWERING
            ) from error
        raise ConsoleError(f"the unit answers {name} without end", cause=Cause.FLOODS)

    async def settle(self) -> None:
        """Let go of what is still coming from before; raises `UnpluggedError`."""
        try:
            async with asyncio.timeout(_MOST_SETTLING_SECONDS):
                while True:
                    async with asyncio.timeout(self._quiet_seconds):
                        await self._read()
        except TimeoutError:
            self._lines = Lines()

    def _is_prompted(self) -> bool:
        if self._prompt and not self._lines.rest.endswith(self._prompt):
            return False
        if self._prompt:
            self._lines = Lines()
        return True

    async def _read(self) -> bytes:
        octets = await self._line.read()
        self.wire_bytes += len(octets)
        return octets


def ends(*, done: Callable[[str], bool], refused: Callable[[str], bool]) -> Judge:
    """Return a judge by two tests of a line."""

    def judge(line: str) -> End | None:
        if done(line):
            return End.DONE
        return End.REFUSED if refused(line) else None

    return judge
