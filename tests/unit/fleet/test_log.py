"""The server's log: one line a record, whatever strangers sent, and nobody waits for whoever reads it."""

import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from fleet.log import FIELDS, MOST_WAITING, Event, JsonForm, TextForm, Writer, about, begin, members_of
from fleet.watching_sections import LogConfig, LogForm, LogLevel
from fleet.web.gate import problems

HOSTILE = st.text(max_size=300) | st.sampled_from(
    [
        "x\n12:00:00 INFO request.answered outcome=ok: fake",
        'x" outcome=ok',
        "x outcome=ok: y",
        '","outcome":"ok',
        "\x1b[2J\r\x85\u2028\u2029\0",
        "\ud800",
    ]
)


def record(text: str, **fields: str) -> logging.LogRecord:
    made = logging.LogRecord("fleet.ra.issuing", logging.WARNING, __file__, 1, "%s", (text,), None)
    if fields:
        made.__dict__.update(about(Event.REQUEST_ANSWERED, **fields))
    return made


@given(HOSTILE, HOSTILE, HOSTILE)
def test_as_json_a_record_is_one_line_and_each_value_stays_in_its_field(
    text: str, device: str, cause: str
) -> None:
    line = JsonForm().format(record(text, device=device, cause=cause, outcome="refused"))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert found["outcome"] == "refused"
    assert set(found) <= {"at", "level", "event", "text", *FIELDS}
    assert found["text"] == text
    assert found.get("device", "")[:255] == device[:255]


@given(HOSTILE, HOSTILE, HOSTILE)
def test_as_text_a_record_is_one_line_whose_fields_are_ours(text: str, device: str, cause: str) -> None:
    line = TextForm().format(record(text, device=device, cause=cause, outcome="refused"))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert fields_of(line)["outcome"] == "refused"
    assert set(fields_of(line)) <= {"device", "cause", "outcome"}


@given(HOSTILE)
def test_a_text_without_fields_has_none_whatever_it_says(text: str) -> None:
    line = TextForm().format(record(text))
    assert fields_of(line) == {}
    assert line.split(" ")[2] == "ra.issuing:"


def fields_of(line: str) -> dict[str, str]:
    """Read a line as its format is told: names and values until the first colon that ends the head."""
    rest = line.split(" ", 2)[2]
    event, rest = re.match(r"([a-z_.]+)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]  # it matches
    found = {}
    while rest.startswith(" "):
        name, value, rest = re.match(  # type: ignore[union-attr]  # as above
            r' ([a-z]+)=("(?:[^"\\]|\\.)*"|[A-Za-z0-9._:/@+-]*[A-Za-z0-9._/@+-])(.*)', rest, re.DOTALL
        ).groups()
        found[name] = json.loads(value) if value.startswith('"') else value
    assert rest.startswith(": "), (event, line)
    return found


def test_a_trace_is_told_and_no_line_of_it_can_pass_for_a_record() -> None:
    try:
        raise ValueError("x\n12:00:00 INFO request.answered: fake")
    except ValueError:
        failed = record("failed")
        failed.exc_info = sys.exc_info()
    first, *more = TextForm().format(failed).splitlines()
    assert first.endswith("ra.issuing: failed")
    assert more
    assert all(line.startswith("    ") for line in more)
    assert "fake" in json.loads(JsonForm().format(failed))["trace"]


def test_a_field_that_nobody_knows_is_a_fault_of_the_program() -> None:
    with pytest.raises(ValueError, match="colour"):
        about(Event.REQUEST_ANSWERED, colour="red")


@pytest.fixture
def quiet() -> Iterator[None]:
    ours, others = logging.getLogger("fleet"), logging.getLogger()
    before = (ours.handlers[:], ours.level, ours.propagate, others.handlers[:], others.level)
    yield
    ours.handlers[:], ours.propagate, others.handlers[:] = before[0], before[2], before[3]
    ours.setLevel(before[1])
    others.setLevel(before[4])


@pytest.mark.usefixtures("quiet")
def test_the_configuration_says_what_is_written_and_how() -> None:
    stream = io.StringIO()
    writer = begin(LogConfig(form=LogForm.JSON, level=LogLevel.WARNING), stream)
    logging.getLogger("fleet.x").info("not this")
    logging.getLogger("fleet.x").warning("this")
    logging.getLogger("other").info("nor this")
    logging.getLogger("other").warning("and this")
    writer.close()
    assert [json.loads(line)["text"] for line in stream.getvalue().splitlines()] == ["this", "and this"]


def test_a_reader_who_hangs_delays_nobody_and_is_told_how_much_was_lost() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        writer = Writer(stream)
        writer.setFormatter(JsonForm())
        for number in range(MOST_WAITING + 3000):
            writer.emit(record(f"{number} {'x' * 100}"))
        told = _read_on(reading, writer)
    assert any(one["event"] == "log.lost" and one["count"] > 0 for one in told)
    os.close(reading)


def _read_on(reading: int, writer: Writer) -> list[dict[str, str | int]]:
    """Read what was held up, then let the writer say what it lost."""
    content = b""
    while content.count(b"\n") < 1000:
        content += os.read(reading, 1 << 16)
    writer.emit(record("again"))
    while b'"text":"again"' not in content:
        content += os.read(reading, 1 << 16)
    writer.close()
    return [json.loads(line) for line in content.splitlines()]


def test_a_stream_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    stream: TextIO = (tmp_path / "log").open("w")
    stream.close()
    writer = Writer(stream)
    writer.setFormatter(TextForm())
    writer.emit(record("x"))
    writer.close()


@pytest.mark.parametrize("given", ["0f3c7d6a-94d8-4c0d-87ca-a3c774317aff", "x" * 65, "a b", "", 'a"b\\n'])
async def test_what_failed_over_http_is_known_by_the_client_s_own_key(
    given: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError("a defect")

    headers = {"Idempotency-Key": given} if given else {}
    answer = await problems(make_mocked_request("POST", "/api/v1/devices", headers=headers), broken)
    assert isinstance(answer, web.Response)
    detail = json.loads(answer.body or b"")["detail"]  # type: ignore[arg-type]  # it is bytes
    told = members_of(caplog.records[-1])["request"]
    assert detail.endswith(f"request={told}")
    assert (told == given) is (given.startswith("0f3c"))
