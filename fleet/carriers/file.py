"""A file: each notification is one line, a CloudEvent in JSON, on the disk before it counts as told.

A line stands in it once: what was written before a crash is found again by its id. A line that a crash has
cut is ended first, so that the next one is whole.
"""

import asyncio
import os
from pathlib import Path

from fleet.channel_sections import FileConfig
from fleet.core.letter import Letter
from fleet.errors import BadInputError
from fleet.files import SECRET_MODE, sync_folder, telling

_LOOKED_BACK = 1024 * 1024
"""What was under way at a crash is among the last lines."""


class FileCarrier:
    """`ra.carrier.Carrier` by a file that grows; who rotates it may move it away at any time."""

    def __init__(self, settings: FileConfig, *, root: Path) -> None:
        self._path = root / settings.path

    async def carry(self, letter: Letter, address: str) -> str:
        """Return where it stands; raises as `Carrier` says."""
        is_new = await asyncio.to_thread(append_once, self._path, letter.cloud_event(), mark=letter.id)
        return f"written to {self._path.name}" if is_new else f"it stood in {self._path.name} already"

    def check(self) -> None:
        """Look whether the file can be written, or made; raises `FleetError`."""
        with telling(self._path):
            if self._path.exists():
                os.close(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW))
            elif not os.access(self._path.parent, os.W_OK | os.X_OK):
                raise BadInputError(f"{self._path.parent} cannot be written", hint="name another path")


def append_once(path: Path, line: bytes, *, mark: str) -> bool:
    """Add a line durably, unless one with this mark is among the last; return whether it was added.

    Raises:
        StorageFullError, BadInputError: it cannot be written.
    """
    with telling(path):
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, SECRET_MODE), "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _LOOKED_BACK, 0))
            last = file.read(_LOOKED_BACK)
            is_new = mark.encode() not in last.rpartition(b"\n")[0]
            if is_new:
                file.write((b"" if not last or last.endswith(b"\n") else b"\n") + line + b"\n")
                file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
        return is_new
