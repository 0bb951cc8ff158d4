"""Files that a command is handed, by name or on standard input."""

import sys
from pathlib import Path

from fleet.errors import BadInputError


def content_of(file: Path) -> bytes:
    """Return what stands in a file; `-` is standard input.

    Raises:
        BadInputError: it cannot be read.
    """
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInputError(f"{file} cannot be read: {(error.strerror or '').lower()}") from error
