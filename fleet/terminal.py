"""Whether somebody sits at a terminal: who is asked where nobody can answer waits for ever."""

import sys


def can_ask() -> bool:
    """Tell whether standard input is a terminal; it may be closed (`<&-`), and is None then."""
    return sys.stdin is not None and sys.stdin.isatty()


def is_shown() -> bool:
    """Tell whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def is_told() -> bool:
    """Tell whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()
