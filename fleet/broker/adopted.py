"""Joins our own roots with those of adopted fleets, whose devices come to the same listener.

It trusts nothing by itself: what a certificate under such a root may do, the allowlist alone says.
"""

from pathlib import Path

from fleet.errors import FleetError


def joined(own: Path, adopted: Path | None) -> bytes:
    """Return the certificates of both files, PEM; there may be nothing adopted.

    Raises:
        FleetError: a file cannot be read.
    """
    try:
        return own.read_bytes() + read_if_there(adopted)
    except OSError as error:
        raise FleetError(f"{own} cannot be read", hint="restore it from a backup") from error


def read_if_there(path: Path | None) -> bytes:
    """Return what a file holds; nothing where there is none. Raises `FleetError`."""
    try:
        return b"" if path is None else path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise FleetError(f"{path} cannot be read", hint="restore it from a backup") from error
