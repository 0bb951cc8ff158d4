"""Whether somebody sits at a terminal who can be asked."""

import sys


def can_ask() -> bool:
    """Tell whether standard input is a terminal; it may be closed (`<&-`), and is None then."""
    return sys.stdin is not None and sys.stdin.isatty()
