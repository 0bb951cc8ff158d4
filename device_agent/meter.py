"""Counts what one identity does, and keeps the counters over restarts: one small file, once an hour at most.

What was counted since the last write is lost in a power cut: that is the price of sparing the flash.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from device_agent.core.tally import MAX_TALLY_BYTES, Tally
from device_agent.errors import StateError
from device_agent.files import read_file, remove_file, temporary_of, write_file
from device_agent.wire.problems import MalformedMessageError

_log = logging.getLogger(__name__)

TALLY = "tally"
"""The file."""
_KEPT_EVERY = 3600.0


class Meter:
    """The counters of one state folder. `seconds` is a clock that never goes back."""

    def __init__(self, folder: Path, *, now: datetime, seconds: Callable[[], float] = time.monotonic) -> None:
        self._path, self._seconds = folder / TALLY, seconds
        self._kept = read_tally(folder)
        self._tally = self._kept or Tally(since=now.replace(microsecond=0))
        self._kept_at = seconds()

    @property
    def tally(self) -> Tally:
        """What was counted so far."""
        return self._tally

    def renewed(self) -> None:
        """Count a certificate that took the place of another."""
        self._tally = replace(self._tally, renewals=self._tally.renewals + 1)

    def failed(self, word: str) -> None:
        """Count an attempt that ended with a problem."""
        self._tally = replace(self._tally, failures=self._tally.failed(word))

    def signed(self) -> None:
        """Count a signature outside of TLS."""
        self._tally = replace(self._tally, signatures=self._tally.signatures + 1)

    def connected(self) -> None:
        """Count a connection to the broker."""
        self._tally = replace(self._tally, connections=self._tally.connections + 1)

    def wrote(self, length: int) -> None:
        """Count a file, or a line of one, of so many bytes."""
        tally = self._tally
        self._tally = replace(tally, writes=tally.writes + 1, written_bytes=tally.written_bytes + length)

    def keep_in_time(self) -> None:
        """Write the counters where that was not done for an hour."""
        if self._seconds() - self._kept_at >= _KEPT_EVERY:
            self.keep()

    def keep(self) -> None:
        """Write the counters, where they are others."""
        self._kept_at = self._seconds()
        if self._tally == self._kept:
            return
        self.wrote(len(self._tally.encode()))
        try:
            write_file(self._path, self._tally.encode())
            self._kept = self._tally
        except StateError as error:
            _log.warning("%s; what was counted is lost with this process", error)

    def forget(self) -> None:
        """Begin anew, after a factory reset; raises `StateError`."""
        remove_file(temporary_of(self._path))
        remove_file(self._path)
        self._tally = Tally(since=self._tally.since)
        self._kept = self._tally


def read_tally(folder: Path) -> Tally | None:
    """Return the counters that were kept in a state folder; None where there are none to be read."""
    try:
        content = read_file(folder / TALLY, most=MAX_TALLY_BYTES)
        return None if content is None else Tally.parse(content)
    except (StateError, MalformedMessageError) as error:
        _log.warning("%s; counting begins anew", error)
        return None
