"""Mosquitto: its log with `log_type error` and `log_type notice`, times in seconds or as ISO 8601.

Mosquitto does not say why it did not accept a chain, nor whose it was: that the client alone is told.
"""

import re
from datetime import UTC, datetime

from fleet.core.causes import Cause, of_reason
from fleet.core.log_lines import Finding, moment, shown_address

_LINE = re.compile(r"(\d{9,11}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d): (.*)", re.ASCII)
_FAILED = re.compile(
    r"Client connection from ([0-9A-Fa-f:.]+) failed: error:[0-9A-F]+:[^:]*:[^:]*:(.*?)\.?$", re.ASCII
)
_NEW = re.compile(r"New connection from ([0-9A-Fa-f:.]+):(\d+) on port \d+\.$", re.ASCII)
_CONNECTED = re.compile(r"New client connected from ([0-9A-Fa-f:.]+):(\d+) as ", re.ASCII)
_LIBRARY = re.compile(r"OpenSSL Error\[\d+\]: error:[0-9A-F]+:[^:]*:[^:]*:(.*)$", re.ASCII)
_NOBODY = "Client <unknown> "
_REFUSED = re.compile(r"Client .* disconnected, not authorised\.$", re.ASCII)
_MOST_OPEN = 4096


class MosquittoReader:
    """Remembers who connected and did not come in yet: an error is theirs, if it can be no other's."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], None] = {}
        self._error: str | None = None

    def feed(self, line: str) -> Finding | None:
        """Return the refusal that a line completes."""
        found = _LINE.match(line)
        if found is None:
            return None
        at, text = _time(found[1]), found[2]
        if (failed := _FAILED.match(text)) is not None:
            return Finding(cause=of_reason(failed[2]), at=at, address=shown_address(failed[1]))
        if (reason := _LIBRARY.match(text)) is not None:
            self._error = reason[1]
            return None
        return self._followed(text, at)

    def _followed(self, text: str, at: datetime | None) -> Finding | None:
        error, self._error = self._error, None
        if (new := _NEW.match(text)) is not None:
            self._open[new[1], new[2]] = None
            if len(self._open) > _MOST_OPEN:
                self._open.clear()
        elif (connected := _CONNECTED.match(text)) is not None:
            self._open.pop((connected[1], connected[2]), None)
        elif text.startswith(_NOBODY):
            address = self._whose()
            if error is not None:
                return Finding(cause=of_reason(error), at=at, address=address)
        elif _REFUSED.match(text) is not None:
            return Finding(cause=Cause.NOT_ADMITTED, at=at)
        return None

    def _whose(self) -> str:
        """Return the address of the only one that can be meant; where there are more, nobody knows."""
        waiting = list(self._open)
        self._open.clear()
        return shown_address(waiting[0][0]) if len(waiting) == 1 else ""


def _time(text: str) -> datetime | None:
    if "T" in text:
        return moment(text, "%Y-%m-%dT%H:%M:%S")
    return datetime.fromtimestamp(int(text), tz=UTC)
