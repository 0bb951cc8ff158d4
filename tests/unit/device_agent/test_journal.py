"""What the journal is sent, on a real socket, read back by the rules of its protocol."""

import io
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.journal import MOST_BYTES, JournalHandler, fields, log_handler


@contextmanager
def journald(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(5)
        yield listener


def parse(entry: bytes) -> dict[str, str]:
    """Read an entry as systemd does: NAME=value, or NAME, a length in 64 bits, and so many octets."""
    found, at = dict[str, str](), 0
    while at < len(entry):
        end = entry.index(b"\n", at)
        name, equals, value = entry[at:end].partition(b"=")
        if not equals:
            length = int.from_bytes(entry[end + 1 : end + 9], "little")
            value, end = entry[end + 9 : end + 9 + length], end + 9 + length
            assert entry[end : end + 1] == b"\n"
        found[name.decode()] = value.decode()
        at = end + 1
    return found


@contextmanager
def logger(handler: logging.Handler) -> Iterator[logging.Logger]:
    made = logging.Logger("device_agent.test")
    made.addHandler(handler)
    try:
        yield made
    finally:
        handler.close()


def test_an_entry_has_the_message_its_place_and_the_fields_that_were_given(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with journald(path) as journal, logger(JournalHandler(logging.NullHandler(), journal=path)) as log:
        log.warning("%s is away", "the server", extra=fields(problem="unreachable", hint="look"))
        found = parse(journal.recv(65536))
    assert found["MESSAGE"] == "the server is away"
    assert (found["PROBLEM"], found["HINT"]) == ("unreachable", "look")
    assert (found["PRIORITY"], found["LOGGER"]) == ("4", "device_agent.test")
    assert (found["SYSLOG_IDENTIFIER"], found["CODE_FILE"]) == ("device-agent", __file__)


@pytest.mark.parametrize(
    ("level", "priority"), [(logging.CRITICAL, "3"), (logging.ERROR, "3"), (logging.INFO, "6"), (5, "7")]
)
def test_levels_are_syslogs_priorities(tmp_path: Path, level: int, priority: str) -> None:
    path = tmp_path / "socket"
    with journald(path) as journal, logger(JournalHandler(logging.NullHandler(), journal=path)) as log:
        log.log(level, "text")
        assert parse(journal.recv(65536))["PRIORITY"] == priority


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_any_text_comes_through_and_makes_no_field_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("journal") / "socket"
    with journald(path) as journal, logger(JournalHandler(logging.NullHandler(), journal=path)) as log:
        log.info("%s", text, extra=fields(reason=text))
        found = parse(journal.recv(65536))
    assert (found["MESSAGE"], found.get("REASON", "")) == (text, text)
    code = {"CODE_FILE", "CODE_LINE", "CODE_FUNC"}
    assert set(found) - {"REASON"} == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "LOGGER"} | code


def test_what_is_too_long_is_cut_off_between_characters_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with journald(path) as journal, logger(JournalHandler(logging.NullHandler(), journal=path)) as log:
        log.info("x" + "é" * MOST_BYTES)
        message = parse(journal.recv(2**20))["MESSAGE"]
    assert message.startswith("xéé")
    assert message.endswith(f"é [{MOST_BYTES + 1} bytes more]")


def test_what_the_journal_does_not_take_goes_to_stderr(tmp_path: Path) -> None:
    text = io.StringIO()
    with logger(JournalHandler(logging.StreamHandler(text), journal=tmp_path / "none")) as log:
        log.error("nobody listens")
    assert text.getvalue() == "nobody listens\n"


def test_a_journal_that_was_started_anew_gets_what_follows(tmp_path: Path) -> None:
    path, text = tmp_path / "socket", io.StringIO()
    with logger(JournalHandler(logging.StreamHandler(text), journal=path)) as log:
        with journald(path):
            log.info("lost with the first")
        path.unlink()
        log.info("between")
        with journald(path) as journal:
            log.info("after")
            assert parse(journal.recv(65536))["MESSAGE"] == "after"
    assert text.getvalue() == "between\n"


def test_the_journal_is_used_only_where_stderr_is_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        found = os.fstat(stream.fileno())
        its_own = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        handler = log_handler(its_own, stream)
        assert isinstance(handler, JournalHandler)
        handler.close()
        for environment in ({}, {"JOURNAL_STREAM": "1:2"}, {"JOURNAL_STREAM": ""}):
            assert not isinstance(log_handler(environment, stream), JournalHandler)
    assert not isinstance(log_handler(its_own, io.StringIO()), JournalHandler)
