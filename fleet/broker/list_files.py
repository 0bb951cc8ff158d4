"""Keeps the list of admitted certificates on disk: a broker that starts alone enforces the last good one.

One file holds the whole list, another one the changes since; a change of another list's generation is void.
"""

import os
from pathlib import Path

from fleet.files import telling, write_file

_MODE = 0o600


class ListFiles:
    """The list and its journal. Calls block on the disk: run them in a thread."""

    def __init__(self, folder: Path) -> None:
        self.whole = folder / "allowlist"
        self.journal = folder / "allowlist.journal"
        self._journaled = 0

    @property
    def journaled(self) -> int:
        """How many changes were appended since the whole list was written."""
        return self._journaled

    def replace(self, text: bytes) -> None:
        """Write the whole list, durably, and start an empty journal.

        The journal goes second: should this be cut short, its changes are of a generation that is gone.

        Raises:
            StorageFullError, BadInputError: the old list stands.
        """
        write_file(self.whole, text, mode=_MODE)
        write_file(self.journal, b"", mode=_MODE)
        self._journaled = 0

    def append(self, text: bytes) -> None:
        """Add a change to the journal, durably. One that is cut short ends the journal for its reader.

        Raises:
            StorageFullError, FleetError: it may be there in part.
        """
        with telling(self.journal):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(self.journal, flags, _MODE), "ab") as journal:
                journal.write(text)
                journal.flush()
                os.fdatasync(journal.fileno())
        self._journaled += 1
