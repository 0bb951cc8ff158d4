"""Lays out a table for the width that a terminal has: nothing that people copy is cut, and no column is lost.

Times grow shorter first, then texts, and what still has no place beside the others stands below its row.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_GAP = "  "
_INDENT = " " * 4
_LEAST = 12
"""A text that may be cut keeps so many characters."""
_NOTHING = "-"
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}):\d{2}Z")
_FORMS_OF_TIME = (r"\g<0>", r"\1 \2", r"\1")
"""To the second, to the minute, to the day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One member of each object of a list, under a title."""

    title: str
    member: str
    whole: bool = False
    """Never cut: what people copy, such as a serial."""


Rows = Sequence[Sequence[str]]


def laid_out(rows: Rows, columns: Sequence[Column], *, width: int | None) -> list[str]:
    """Return the lines of a table, its head first; without a width every column is as wide as it likes."""
    if width is None:
        return list(_lines(rows, columns, _natural(rows, columns)))
    beside = columns[: _places(_with_times(rows, _FORMS_OF_TIME[-1]), columns, width)]
    below = columns[len(beside) :]
    fitting = _with_times_that_fit(rows, beside, width)
    lines = _lines(fitting, beside, _shrunk(_natural(fitting, beside), beside, width))
    head = next(lines)
    found = [head]
    for line, row in zip(lines, rows, strict=True):
        found.append(line)
        found += _below(row[len(beside) :], below, width)
    return found


def _natural(rows: Rows, columns: Sequence[Column]) -> list[int]:
    return [
        max(len(column.title), *(len(row[place]) for row in rows)) for place, column in enumerate(columns)
    ]


def _fits(widths: Sequence[int], width: int) -> bool:
    return sum(widths) + len(_GAP) * (len(widths) - 1) <= width


def _with_times_that_fit(rows: Rows, columns: Sequence[Column], width: int) -> Rows:
    forms = (_with_times(rows, form) for form in _FORMS_OF_TIME[:-1])
    shortest = _with_times(rows, _FORMS_OF_TIME[-1])
    return next((form for form in forms if _fits(_natural(form, columns), width)), shortest)


def _with_times(rows: Rows, form: str) -> Rows:
    return [[_TIME.sub(form, cell) if _TIME.fullmatch(cell) else cell for cell in row] for row in rows]


def _places(rows: Rows, columns: Sequence[Column], width: int) -> int:
    """Return how many columns stand beside each other; the first always does."""
    natural = _natural(rows, columns)
    for places in range(len(columns), 1, -1):
        least = [_least(columns[place], natural[place]) for place in range(places)]
        if places == len(columns):
            least[-1] = natural[-1]  # often the longest: rather than cut, it is whole below its row
        if _fits(least, width):
            return places
    return 1


def _least(column: Column, natural: int) -> int:
    return natural if column.whole else min(natural, max(len(column.title), _LEAST))


def _shrunk(widths: list[int], columns: Sequence[Column], width: int) -> list[int]:
    """Return widths that fit: the widest text that may be cut gives way first."""
    while not _fits(widths, width):
        free = [
            place for place, column in enumerate(columns) if widths[place] > _least(column, widths[place])
        ]
        if not free:
            break
        widths[max(free, key=lambda place: widths[place])] -= 1
    return widths


def _lines(rows: Rows, columns: Sequence[Column], widths: Sequence[int]) -> Iterator[str]:
    for row in ([column.title for column in columns], *rows):
        cells = (_cut(row[place], width).ljust(width) for place, width in enumerate(widths))
        yield _GAP.join(cells).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _below(cells: Sequence[str], columns: Sequence[Column], width: int) -> Iterator[str]:
    for cell, column in zip(cells, columns, strict=True):
        if cell != _NOTHING:
            text = f"{column.title.lower()}: {cell}"
            yield from textwrap.wrap(
                text, width=width, initial_indent=_INDENT, subsequent_indent=_INDENT * 2,
                break_on_hyphens=False,
            )  # fmt: skip
