"""What a command says: data on stdout, talk on stderr, tables for people and JSON for programs.

It never mixes the two streams, and prints nothing that a terminal would obey: control characters of
untrusted text are shown, not sent.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from fleet.cli.table import Column as Column  # noqa: PLC0414 - who says what is shown finds all of it here
from fleet.cli.table import laid_out
from fleet.terminal import is_shown

if TYPE_CHECKING:
    from rich.console import Console

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
Members: TypeAlias = Mapping[str, Json]

_WIDE = 10_000
"""Columns of what is piped: its lines are never cut."""
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


class Form(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def visible(text: str) -> str:
    """Return text with every character that is not printable written as an escape."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def cell(value: Json) -> str:
    """Return a JSON value as a person reads it, in one line."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return visible(value)
        case float():
            return f"{value:.1f}"
        case int():
            return str(value)
        case Mapping():
            return ", ".join(f"{visible(name)} {cell(member)}" for name, member in value.items()) or "-"
        case _:
            return ", ".join(cell(item) for item in value) or "-"


def items_of(value: Json) -> list[Members]:
    """Return the objects of a list that the server sent."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [item for item in value if isinstance(item, Mapping)]
    return []


def say(text: str) -> None:
    """Tell a person what happens; on stderr."""
    sys.stderr.write(visible(text) + "\n")
    sys.stderr.flush()


def say_error(message: str, hint: str | None) -> None:
    """Tell an error and the way out, in the one form that all commands have."""
    say(f"error: {message}")
    if hint is not None:
        say(f"hint: {hint}")


def write_text(text: str) -> None:
    """Write data that is text already, such as PEM, to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def write_json(value: Json) -> None:
    """Write one JSON document to stdout."""
    write_text(json.dumps(value, indent=2, ensure_ascii=False))


def write_line(value: Json) -> None:
    """Write one JSON document on one line to stdout."""
    write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def show_list(items: Iterable[Members], form: Form, *, columns: Sequence[Column], empty: str = "") -> None:
    """Print the objects of a list; `empty` is what a person is told when there are none."""
    match form:
        case Form.JSONL:
            for item in items:
                write_line(item)
        case Form.JSON:
            _write_array(iter(items))
        case Form.TABLE:
            rows = [[cell(item.get(column.member)) for column in columns] for item in items]
            if rows:
                _print_table(rows, columns)
            elif empty:
                say(empty)


def show_record(record: Members, form: Form, *, names: Mapping[str, str]) -> None:
    """Print one object; `names` are the members that a person sees, with their titles."""
    if form is not Form.TABLE:
        (write_line if form is Form.JSONL else write_json)(record)
        return
    shown = [(title, cell(record[member])) for member, title in names.items() if member in record]
    width = max((len(title) for title, _ in shown), default=0)
    for title, value in shown:
        write_text(f"{title.ljust(width)}  {value}")


def console(*, stderr: bool = False) -> "Console":
    """Return a rich console for a stream: plain where nobody looks, or NO_COLOR is set."""
    from rich.console import Console  # noqa: PLC0415 - a third of the start-up time, and few need it

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDE
    return Console(
        file=stream,
        width=width,
        no_color="NO_COLOR" in os.environ,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _write_array(items: Iterator[Members]) -> None:
    """Write a JSON array item by item, so that a long list needs no memory."""
    separator = "["
    for item in items:
        body = json.dumps(item, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        sys.stdout.write(f"{separator}\n  {body}")
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")
    sys.stdout.flush()


def _print_table(rows: Sequence[Sequence[str]], columns: Sequence[Column]) -> None:
    is_terminal = is_shown()
    head, *lines = laid_out(rows, columns, width=shutil.get_terminal_size().columns if is_terminal else None)
    write_text(f"{_BOLD}{head}{_PLAIN}" if is_terminal and "NO_COLOR" not in os.environ else head)
    for line in lines:
        write_text(line)
