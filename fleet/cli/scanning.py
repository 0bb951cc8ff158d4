"""Reads a bar-code scanner: a keyboard that types a line, on standard input."""

import asyncio
import os
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleet.errors import UsageError

_LONGEST = 1024
_READ_BYTES = 4096


@contextmanager
def typed_lines(take: Callable[[str], None]) -> Iterator[None]:
    """Call `take` with each line that is typed, on the running event loop; nothing of it is shown.

    Raises:
        UsageError: standard input is neither a terminal nor a pipe.
    """
    if sys.stdin is None:
        raise UsageError(
            "the scanner types on standard input, and that is closed", hint="leave --scanner out"
        )
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    lines = _Lines(take)

    def read() -> None:
        octets = os.read(descriptor, _READ_BYTES)
        if not octets:
            loop.remove_reader(descriptor)
        lines.feed(octets)

    with _unseen(descriptor):
        try:
            loop.add_reader(descriptor, read)
        except PermissionError as error:
            raise UsageError(
                "a scanner types on standard input, which is a file", hint="leave --scanner out"
            ) from error
        try:
            yield
        finally:
            loop.remove_reader(descriptor)


class _Lines:
    """Cuts what is typed into lines; one that has no end is forgotten."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._begun = b""

    def feed(self, octets: bytes) -> None:
        *whole, self._begun = (self._begun + octets).replace(b"\r", b"\n").split(b"\n")
        self._begun = self._begun if len(self._begun) <= _LONGEST else b""
        for line in whole:
            if line.strip() and len(line) <= _LONGEST:
                self._take(line.decode("utf-8", "replace"))


@contextmanager
def _unseen(descriptor: int) -> Iterator[None]:
    """Let the terminal not show what is typed: the screen is there, and a badge is nobody's business."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    silent = list(before)
    silent[3] = before[3] & ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
