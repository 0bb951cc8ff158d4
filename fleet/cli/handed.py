"""Files that a command is handed, by name or on standard input."""

import sys
from pathlib import Path

from fleet.errors import BadInputError


def standard_input(most: int = -1) -> bytes:
    """Return what stands on standard input, up to a number of bytes.

    Raises:
        BadInputError: it is closed.
    """
    if sys.stdin is None:
        raise BadInputError("standard input is closed", hint="name a file, or leave <&- out")
    return sys.stdin.buffer.read(most)


def content_of(file: Path) -> bytes:
    """Return what stands in a file; `-` is standard input.

    Raises:
        BadInputError: it cannot be read.
    """
    if str(file) == "-":
        return standard_input()
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInputError(f"{file} cannot be read: {(error.strerror or '').lower()}") from error
