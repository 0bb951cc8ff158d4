"""Reads what a key is kept in: a file that its owner alone can read, of a size that a key can have."""

from pathlib import Path

from device_agent.errors import KeyStoreError, StateError
from device_agent.files import is_private, read_file


def read_private(path: Path, *, most: int) -> bytes:
    """Return what the file holds.

    Raises:
        KeyStoreError: it is not there, larger than `most` bytes, or others may read it.
    """
    try:
        content = read_file(path, most=most)
    except StateError as error:
        raise KeyStoreError(str(error), hint=error.hint) from error
    if content is None:
        raise KeyStoreError(f"there is no key {path}", hint="device-agent doctor")
    if not is_private(path):
        raise KeyStoreError(f"others than its owner may read {path}", hint=f"chmod 600 {path}")
    return content
