"""The server's log: one line a record, as text for people or as JSON for programs, on stderr.

What strangers sent stays inside its field: it makes no second line and no field of its own, in neither form.
No secret is given to it. Whoever logs waits for nobody who reads: lines that come too fast are counted.
"""

import json
import logging
import queue
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

from fleet.watching_sections import LogConfig, LogForm

MOST_WAITING = 10_000
"""Lines that wait for whoever reads them."""
LONGEST_TEXT, LONGEST_FIELD = 2048, 256
FIELDS = (
    *("device", "domain", "serial", "channel", "address"),
    *("kind", "step", "outcome", "cause", "request", "place", "count", "seconds"),
)
"""Every field that a record can have, in the order in which it is shown."""
_EXTRA = "told"
_CLOSE_SECONDS = 2.0
_PLAIN = re.compile(r"[A-Za-z0-9._:/@+-]*[A-Za-z0-9._/@+-]", re.ASCII)
_LEVELS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}


class Event(StrEnum):
    """What a record is about; a record without one is called after the part of the server that wrote it."""

    REQUEST_ANSWERED = "request.answered"
    REQUEST_FAILED = "request.failed"
    DEVICE_ALARMED = "device.alarmed"
    BROKER_BEHIND = "broker.behind"
    HISTORY_LOST = "history.lost"
    LOG_LOST = "log.lost"
    LOG_UNREADABLE = "log.unreadable"
    API_FAILED = "api.failed"


def about(event: Event, **fields: str | float | None) -> dict[str, object]:
    """Return `extra` for a logging call: what it is about, and its fields; what is empty is left out.

    Raises:
        ValueError: there is no such field.
    """
    if strange := fields.keys() - set(FIELDS):
        raise ValueError(f"no field of a record is called {min(strange)}")
    return {_EXTRA: (event, {name: fields[name] for name in FIELDS if fields.get(name) not in {None, ""}})}


def members_of(record: logging.LogRecord) -> dict[str, str | int | float]:
    """Return the members of a record, JSON's types only."""
    event, fields = _told(record)
    text = _cut(record.getMessage(), LONGEST_TEXT)
    at = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds")
    found: dict[str, str | int | float] = {
        "at": at.replace("+00:00", "Z"),
        "level": _LEVELS.get(record.levelno, "info"),
        "event": event,
    }
    for name, value in fields.items():
        found[name] = _cut(value, LONGEST_FIELD) if isinstance(value, str) else value
    found["text"] = text
    if record.exc_info:
        found["trace"] = logging.Formatter().formatException(record.exc_info)
    return found


class JsonForm(logging.Formatter):
    """One JSON object a line (RFC 8259), ASCII: nothing in it ends the line but its end."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(members_of(record), separators=(",", ":"))


class TextForm(logging.Formatter):
    """`TIME LEVEL EVENT NAME=VALUE...: TEXT`: fields stand before the first `: `, and the text behind it.

    A trace follows in lines of its own, each begun with four spaces.
    """

    def format(self, record: logging.LogRecord) -> str:
        members = members_of(record)
        local = datetime.fromtimestamp(record.created).astimezone()
        fields = [f"{name}={_value(members[name])}" for name in FIELDS if name in members]
        head = " ".join([f"{local:%H:%M:%S}", record.levelname, str(members["event"]), *fields])
        lines = [f"{head}: {_visible(str(members['text']))}"]
        trace = str(members.get("trace", ""))
        return "\n".join([*lines, *(f"    {_visible(line)}" for line in trace.splitlines())])


class Writer(logging.Handler):
    """Hands lines to a thread that writes them; a reader who hangs delays nobody."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() >= MOST_WAITING:
            self._lost += 1
            return
        try:
            lost, self._lost = self._lost, 0
            if lost:
                self._waiting.put(self.format(_lost(lost)))
            self._waiting.put(self.format(record))
        except Exception:  # noqa: BLE001 - as logging has it: a record that cannot be told stops nobody
            self.handleError(record)

    def close(self) -> None:
        """Write what waits, as far as somebody reads it."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(_CLOSE_SECONDS)
        super().close()

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                continue  # nobody reads any more; the service goes on


def begin(config: LogConfig, stream: TextIO) -> Writer:
    """Let our loggers, and warnings of others', write to a stream; close what is returned at the end."""
    writer = Writer(stream)
    writer.setFormatter(JsonForm() if config.form is LogForm.JSON else TextForm())
    ours, others = logging.getLogger("fleet"), logging.getLogger()
    for logger, level in ((ours, config.level.value.upper()), (others, "WARNING")):
        logger.addHandler(writer)
        logger.setLevel(level)
    ours.propagate = False
    return writer


def _lost(count: int) -> logging.LogRecord:
    record = logging.LogRecord(
        __name__, logging.WARNING, __file__, 0, "%d lines of the log were lost", (count,), None
    )
    record.__dict__.update(about(Event.LOG_LOST, count=count))
    return record


def _told(record: logging.LogRecord) -> tuple[str, Mapping[str, str | int | float]]:
    match getattr(record, _EXTRA, None):
        case (Event() as event, dict() as fields):
            return event.value, fields
        case _:
            return record.name.removeprefix("fleet."), {}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _value(value: str | float) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _visible(text: str) -> str:
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
