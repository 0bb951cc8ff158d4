"""Events as JSON lines in the state folder: two files of bounded size, and a bounded number of lines a day.

It is for people and programs that look later. A line may be lost or torn by a power cut; nothing is decided
by one, and none holds a secret.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from device_agent.core.rate import a_day
from device_agent.files import PRIVATE, read_file, remove_file

_log = logging.getLogger(__name__)

EVENTS = "events.jsonl"
EVENTS_BEFORE = "events.jsonl.1"
MAX_FILE_BYTES = 64 * 1024
LONGEST_LINE = 2048
LINES_A_DAY = 100


class Diary:
    """The events of one state folder. `wrote` is told how many bytes; `seconds` never goes back."""

    def __init__(
        self,
        folder: Path,
        *,
        wrote: Callable[[int], None],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._before = folder / EVENTS, folder / EVENTS_BEFORE
        self._wrote, self._seconds = wrote, seconds
        self._rate = a_day(LINES_A_DAY)
        self._left_out = 0

    def note(self, members: Mapping[str, object]) -> None:
        """Append an event; of too many in a day the next one says how many were left out."""
        if not self._rate.allow(self._seconds()):
            self._left_out += 1
            return
        found = dict(members) | ({"left_out": self._left_out} if self._left_out else {})
        line = json.dumps(found, separators=(",", ":")).encode()[: LONGEST_LINE - 1] + b"\n"
        try:
            self._append(line)
        except OSError as error:
            _log.debug("an event was not written: %s", os.strerror(error.errno or 0).lower())
            return
        self._left_out = 0
        self._wrote(len(line))

    def forget(self) -> None:
        """Remove all of it, for a factory reset; raises `StateError`."""
        for path in (self._path, self._before):
            remove_file(path)

    def _append(self, line: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, PRIVATE)
        try:
            size = os.fstat(descriptor).st_size
            # A line that a power cut has torn ends here, so that it takes no other with it.
            is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if is_torn else b"") + line)
        finally:
            os.close(descriptor)
        if size + len(line) >= MAX_FILE_BYTES:
            self._path.replace(self._before)


def read_events(folder: Path) -> Iterator[dict[str, object]]:
    """Give the events of a state folder, the oldest first; what was torn is left out.

    Raises:
        StateError: a file cannot be read.
    """
    for name in (EVENTS_BEFORE, EVENTS):
        content = read_file(folder / name, most=2 * MAX_FILE_BYTES)
        for line in (content or b"").splitlines():
            try:
                event: object = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
