"""Tables fit the terminal: what people copy stays whole, and no column is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cli.table import Column, laid_out

SERIAL = "415d6f029bffd89f45fd60a495afd575"
CERTIFICATES = (
    Column(title="SERIAL", member="serial", whole=True),
    Column(title="NAME", member="name"),
    Column(title="STATE", member="state"),
    Column(title="ENDS", member="not_after"),
)
ENTRIES = (
    Column(title="NUMBER", member="number"),
    Column(title="AT", member="at", whole=True),
    Column(title="ACTION", member="action", whole=True),
    Column(title="DETAILS", member="details"),
)
ROW = (SERIAL, "acme service issuing CA 1", "active", "2036-11-23T05:00:02Z")


def test_what_fits_stands_as_it_is() -> None:
    assert laid_out([ROW], CERTIFICATES, width=100) == [
        f"SERIAL{' ' * 28}NAME{' ' * 23}STATE   ENDS",
        f"{SERIAL}  acme service issuing CA 1  active  2036-11-23T05:00:02Z",
    ]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (86, f"{SERIAL}  acme service issuing CA 1  active  2036-11-23 05:00"),
        (80, f"{SERIAL}  acme service issuing CA 1  active  2036-11-23"),
        (72, f"{SERIAL}  acme service issu…  active  2036-11-23"),
    ],
)
def test_times_grow_shorter_then_texts_and_a_serial_never(width: int, line: str) -> None:
    assert laid_out([ROW], CERTIFICATES, width=width)[1] == line


def test_a_last_column_without_room_stands_whole_below_its_row() -> None:
    rows = [
        (
            "7",
            "2036-11-23T05:00:02Z",
            "device.suspended",
            "reason lost in the post, near the border",
        ),
        ("8", "2036-11-23T05:00:02Z", "device.resumed", "-"),
    ]
    assert laid_out(rows, ENTRIES, width=44) == [
        "NUMBER  AT                ACTION",
        "7       2036-11-23 05:00  device.suspended",
        "    details: reason lost in the post, near",
        "        the border",
        "8       2036-11-23 05:00  device.resumed",
    ]


def test_into_a_pipe_nothing_is_cut_and_nothing_moves() -> None:
    long = "x" * 500
    assert laid_out([("1", "t", "a", long)], ENTRIES, width=None)[1].endswith(long)


@given(
    st.lists(
        st.tuples(*[st.text(alphabet="abc:-.0123456789", min_size=1, max_size=60)] * len(ENTRIES)),
        min_size=1,
        max_size=4,
    ),
    st.integers(8, 200),
)
def test_whole_cells_are_always_there_and_lines_fit_where_they_can(
    rows: list[tuple[str, ...]], width: int
) -> None:
    lines = laid_out(rows, ENTRIES, width=width)
    text = "".join("".join(line.split()) for line in lines)
    for row in rows:
        for cell in row[1:3]:
            assert cell == "-" or "".join(cell.split()) in text
    widest = max(len(cell) for row in rows for cell in row)
    if width >= widest + 2 * len("action: "):
        assert max(map(len, lines)) <= width
