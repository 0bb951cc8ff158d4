"""Where a code of an operator's second factor comes from: a file or a terminal, never the command line."""

import getpass
from pathlib import Path

from fleet.cli.handed import content_of
from fleet.errors import UsageError
from fleet.terminal import can_ask

_LONGEST = 64


def code_of(file: Path | None) -> str:
    """Return a code from a file, or from the terminal.

    Raises:
        UsageError: no file is named, and there is no terminal.
        BadInputError: the file cannot be read.
    """
    if file is not None:
        return content_of(file)[:_LONGEST].decode("utf-8", "replace").strip()
    if not can_ask():
        raise UsageError("a code is needed, and there is no terminal to ask for it", hint="--code-file FILE")
    return getpass.getpass("code: ").strip()
