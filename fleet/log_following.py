"""Reads a log on from where it was left, across rotation by renaming and by truncation.

A file is known by its first line: names are reused, and so are inodes. Only whole lines are taken. It holds
no state: whoever calls keeps the place with what it made of the lines, so that both are kept or neither.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 256 * 1024
"""Of one reading."""
MOST_OLD = 1024 * 1024
"""Of a log that is met for the first time no more than its last bytes are read."""
_LONGEST_FIRST = 4096
_BEFORE = ".1"
"""What logrotate(8) appends to the file before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Whole lines of a log, from the place where they start to the one behind them."""

    lines: tuple[bytes, ...]
    beginning: str
    start: int
    position: int


def read_on(path: Path, *, beginning: str, position: int, most: int = MOST_BYTES) -> Chunk | None:
    """Return the next lines, at most so many bytes of them; None where there are none.

    Raises:
        OSError: the file cannot be read; one that is not there is read when it comes.
    """
    current = beginning_of(path)
    if beginning and current != beginning:
        before = path.with_name(path.name + _BEFORE)
        if beginning_of(before) == beginning and (rest := _lines(before, beginning, position, most)):
            return rest
        position = 0
    if not current:
        return None
    return _lines(path, current, position if beginning else _late(path), most)


def beginning_of(path: Path) -> str:
    """Return what a file is known by, the SHA-256 of its first line; empty as long as it has none."""
    try:
        with path.open("rb") as file:
            first = file.readline(_LONGEST_FIRST)
    except FileNotFoundError:
        return ""
    whole = first.endswith(b"\n") or len(first) == _LONGEST_FIRST
    return hashlib.sha256(first).hexdigest() if whole else ""


def _late(path: Path) -> int:
    """Return where the newest lines of a log begin."""
    with path.open("rb") as file:
        old = file.seek(0, 2) - MOST_OLD
        if old <= 0:
            return 0
        file.seek(old)
        file.readline()
        return file.tell()


def _lines(path: Path, beginning: str, position: int, most: int) -> Chunk | None:
    with path.open("rb") as file:
        if file.seek(0, 2) < position:
            position = 0  # cut off, and begun with the same line
        file.seek(position)
        content = file.read(most)
    end = content.rfind(b"\n") + 1
    if end == 0:
        if len(content) < most:
            return None
        end = len(content)  # one line without an end: no server writes such
    # At line feeds alone: whatever else ends a line elsewhere may have come from a stranger.
    lines = tuple(content[:end].removesuffix(b"\n").split(b"\n"))
    return Chunk(lines=lines, beginning=beginning, start=position, position=position + end)
