"""Data on stdout and talk on stderr; nothing that a terminal would obey."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cli.output import Column, Form, cell, say_error, show_list, show_record, visible

COLUMNS = (Column(title="ID", member="id", whole=True), Column(title="NOTE", member="note"))
ITEMS = ({"id": "d1", "note": None}, {"id": "device-2", "note": "on the shelf"})


@given(st.text())
def test_what_is_shown_is_printable(text: str) -> None:
    assert visible(text).isprintable()


@given(st.text(alphabet=st.characters(categories=["L", "N", "P"])))
def test_what_is_printable_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (0, "0"),
        (1.25, "1.2"),
        ([], "-"),
        (["a", "b"], "a, b"),
        ({"kind": "agent", "uses": 2}, "kind agent, uses 2"),
        ("a\x1b[31m", "a\\x1b[31m"),
    ],
)
def test_a_value_fits_into_a_line(
    value: str | float | list[str] | dict[str, str | int] | None, shown: str
) -> None:
    assert cell(value) == shown


def test_a_table_in_a_pipe_has_aligned_columns_and_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ITEMS, Form.TABLE, columns=COLUMNS)
    assert capsys.readouterr().out == "ID        NOTE\nd1        -\ndevice-2  on the shelf\n"


def test_a_list_is_a_json_array_or_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ITEMS, Form.JSON, columns=COLUMNS)
    assert json.loads(capsys.readouterr().out) == list(ITEMS)
    show_list(ITEMS, Form.JSONL, columns=COLUMNS)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == list(ITEMS)


def test_an_empty_list_is_an_empty_array_and_a_word_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    show_list((), Form.JSON, columns=COLUMNS)
    assert json.loads(capsys.readouterr().out) == []
    show_list((), Form.TABLE, columns=COLUMNS, empty="none yet")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "none yet\n")


def test_an_object_shows_the_members_that_people_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    show_record({"id": "d1", "note": "x", "internal": 1}, Form.TABLE, names={"id": "device", "note": "note"})
    assert capsys.readouterr().out == "device  d1\nnote    x\n"


def test_an_error_has_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    say_error("no such thing", "fleet device list")
    assert capsys.readouterr().err == "error: no such thing\nhint: fleet device list\n"
