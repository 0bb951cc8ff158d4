"""Events in files of bounded size, of which a power cut takes one line at most."""

import json
from pathlib import Path

import pytest

from device_agent.diary import EVENTS, EVENTS_BEFORE, LINES_A_DAY, MAX_FILE_BYTES, Diary, read_events
from device_agent.errors import StateError

DAY = 86400.0


class Days:
    """A clock of whole days."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def days() -> Days:
    return Days()


@pytest.fixture
def wrote() -> list[int]:
    return []


@pytest.fixture
def diary(tmp_path: Path, days: Days, wrote: list[int]) -> Diary:
    return Diary(tmp_path, wrote=wrote.append, seconds=days)


def test_events_are_read_in_their_order_and_are_their_owners_alone(
    diary: Diary, tmp_path: Path, wrote: list[int]
) -> None:
    for number in range(3):
        diary.note({"event": "e", "number": number})
    assert [event["number"] for event in read_events(tmp_path)] == [0, 1, 2]
    assert (tmp_path / EVENTS).stat().st_mode & 0o777 == 0o600
    assert sum(wrote) == (tmp_path / EVENTS).stat().st_size


def test_years_of_events_stay_within_two_files(diary: Diary, tmp_path: Path, days: Days) -> None:
    for day in range(400):
        days.now = day * DAY
        for _ in range(20):
            diary.note({"event": "failed", "detail": "x" * 150, "day": day})
    for name in (EVENTS, EVENTS_BEFORE):
        assert (tmp_path / name).stat().st_size < MAX_FILE_BYTES + 2048
    found = [int(str(event["day"])) for event in read_events(tmp_path)]
    assert found == sorted(found)
    assert found[-1] == 399


def test_of_too_many_in_a_day_the_next_one_tells_how_many_were_left_out(
    diary: Diary, tmp_path: Path, days: Days, wrote: list[int]
) -> None:
    for _ in range(LINES_A_DAY + 7):
        diary.note({"event": "failed"})
    assert len(wrote) == LINES_A_DAY
    days.now = DAY
    diary.note({"event": "works-again"})
    assert list(read_events(tmp_path))[-1] == {"event": "works-again", "left_out": 7}


@pytest.mark.parametrize("length", range(1, 20))
def test_a_torn_line_takes_no_other_with_it(diary: Diary, tmp_path: Path, length: int) -> None:
    diary.note({"event": "first"})
    whole = (tmp_path / EVENTS).read_bytes()
    (tmp_path / EVENTS).write_bytes(whole + json.dumps({"event": "torn"}).encode()[:length])
    diary.note({"event": "last"})
    found = [event["event"] for event in read_events(tmp_path)]
    assert found in (["first", "last"], ["first", "torn", "last"])


def test_a_link_in_its_place_is_not_written_through(diary: Diary, tmp_path: Path, wrote: list[int]) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    (tmp_path / EVENTS).symlink_to(target)
    diary.note({"event": "e"})
    assert (target.read_text(), wrote) == ("kept", [])
    with pytest.raises(StateError):
        list(read_events(tmp_path))
