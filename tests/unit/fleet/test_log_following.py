"""A log is read on from where it was left: no line is lost and none comes twice, whatever rotates it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.log_following import MOST_BYTES, MOST_OLD, read_on


class Follower:
    """Reads as the server does: the place is kept with what was read."""

    def __init__(self, path: Path) -> None:
        self.path, self.beginning, self.position = path, "", 0
        self.lines: list[bytes] = []

    def read(self, *, most: int = MOST_BYTES) -> None:
        while chunk := read_on(self.path, beginning=self.beginning, position=self.position, most=most):
            self.lines += chunk.lines
            self.beginning, self.position = chunk.beginning, chunk.position


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(tmp_path / "log")


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def test_a_log_that_is_not_there_yet_is_read_when_it_comes(follower: Follower) -> None:
    follower.read()
    append(follower.path, b"one\ntwo\n")
    follower.read()
    assert follower.lines == [b"one", b"two"]


def test_half_a_line_waits_for_its_other_half(follower: Follower) -> None:
    append(follower.path, b"one\ntw")
    follower.read()
    append(follower.path, b"o\n")
    follower.read()
    assert follower.lines == [b"one", b"two"]


def test_what_was_written_before_a_rotation_is_read_after_it(follower: Follower) -> None:
    append(follower.path, b"one\n")
    follower.read()
    append(follower.path, b"two\n")
    follower.path.replace(follower.path.with_name("log.1"))
    append(follower.path, b"three\n")
    follower.read()
    assert follower.lines == [b"one", b"two", b"three"]


def test_a_log_that_is_copied_and_cut_is_read_from_its_new_beginning(follower: Follower) -> None:
    append(follower.path, b"one\ntwo\n")
    follower.read()
    follower.path.with_name("log.1").write_bytes(follower.path.read_bytes())
    follower.path.write_bytes(b"")
    follower.read()
    append(follower.path, b"three\n")
    follower.read()
    assert follower.lines == [b"one", b"two", b"three"]


def test_a_new_log_in_the_place_of_the_old_one_is_known_by_its_first_line(follower: Follower) -> None:
    append(follower.path, b"one\n")
    follower.read()
    inode = follower.path.stat().st_ino
    with follower.path.open("r+b") as file:
        file.write(b"ONE\nTWO\n")
    assert follower.path.stat().st_ino == inode
    follower.read()
    assert follower.lines == [b"one", b"ONE", b"TWO"]


def test_only_a_line_feed_ends_a_line(follower: Follower) -> None:
    append(follower.path, b"one\rstill one\x0b\x0c\ntwo\n")
    follower.read()
    assert follower.lines == [b"one\rstill one\x0b\x0c", b"two"]


def test_a_line_that_never_ends_does_not_stop_the_reading(follower: Follower) -> None:
    append(follower.path, b"one\n" + b"x" * 100)
    follower.read(most=32)
    append(follower.path, b"\nlast\n")
    follower.read(most=32)
    assert follower.lines[0] == b"one"
    assert follower.lines[-1] == b"last"


def test_of_a_long_log_that_is_new_only_the_newest_lines_are_read(follower: Follower) -> None:
    append(follower.path, b"old\n" * MOST_OLD + b"last\n")
    follower.read()
    assert follower.lines[-1] == b"last"
    assert set(follower.lines[:-1]) == {b"old"}
    assert MOST_OLD - 8 <= sum(len(line) + 1 for line in follower.lines) <= MOST_OLD


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), max_size=12))
def test_every_line_comes_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, bool]]
) -> None:
    follower = Follower(tmp_path_factory.mktemp("log") / "log")
    written: list[bytes] = []
    for count, rotates, reads in steps:
        for _ in range(count):
            written.append(b"%d" % len(written))
            append(follower.path, written[-1] + b"\n")
        if reads:
            follower.read(most=7)
            if rotates:
                follower.path.replace(follower.path.with_name("log.1"))
    follower.read()
    assert follower.lines == written
