"""Logs to systemd's journal as fields, by its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

Only where stderr is the journal already (systemd.exec(5), JOURNAL_STREAM): redirected, the text goes where it
was sent. What cannot be sent to the journal is written to stderr, so nothing is lost.
"""

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

JOURNAL = Path("/run/systemd/journal/socket")
IDENTIFIER = "device-agent"
MOST_BYTES = 16 * 1024
"""Of one value; more is cut off, with a mark. All of an entry fits one datagram then."""

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Levels as syslog(3) counts them; what is below is 7."""
_FIELDS = "fields"


def fields(**values: str) -> dict[str, object]:
    """Return `extra` for a logging call: values that stand in the journal by their names in upper case."""
    return {_FIELDS: values}


def log_handler(environment: Mapping[str, str], stream: TextIO = sys.stderr) -> logging.Handler:
    """Return where this process logs to: the journal where `stream` is that, else `stream`."""
    plain = logging.StreamHandler(stream)
    return JournalHandler(plain) if _is_journal(environment, stream) else plain


class JournalHandler(logging.Handler):
    """Sends each record as one entry; `otherwise` gets what the journal does not take."""

    def __init__(self, otherwise: logging.Handler, *, journal: Path = JOURNAL) -> None:
        super().__init__()
        self._otherwise, self._journal = otherwise, str(journal)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # A journal that hangs must not hang the agent.
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # By name each time: the journal may have been started anew.
            self._socket.sendto(b"".join(_entry(record, self.format(record))), self._journal)
        except OSError:
            self._otherwise.emit(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _is_journal(environment: Mapping[str, str], stream: TextIO) -> bool:
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _entry(record: logging.LogRecord, message: str) -> Iterator[bytes]:
    """Give the fields of an entry; those with an underscore in front are the journal's own."""
    yield _field("MESSAGE", message)
    yield _field("PRIORITY", str(_priority(record.levelno)))
    yield _field("SYSLOG_IDENTIFIER", IDENTIFIER)
    yield _field("LOGGER", record.name)
    yield _field("CODE_FILE", record.pathname)
    yield _field("CODE_LINE", str(record.lineno))
    yield _field("CODE_FUNC", record.funcName)
    for name, value in getattr(record, _FIELDS, {}).items():
        if value:
            yield _field(name.upper(), value)


def _field(name: str, value: str) -> bytes:
    octets = value.encode("utf-8", "backslashreplace")
    if len(octets) > MOST_BYTES:
        mark = f" [{len(octets) - MOST_BYTES} bytes more]".encode()
        octets = octets[:MOST_BYTES].decode("utf-8", "ignore").encode() + mark
    if b"\n" not in octets:
        return name.encode() + b"=" + octets + b"\n"
    return name.encode() + b"\n" + len(octets).to_bytes(8, "little") + octets + b"\n"


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITIES if level >= least), 7)
