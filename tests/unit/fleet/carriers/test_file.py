"""The file: each notification is one whole line, once, whatever was cut off before."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.carriers.file import FileCarrier, append_once
from fleet.channel_sections import FileConfig
from fleet.errors import FleetError
from tests.letters import ID, letter

OTHER = "1e" * 16


def carrier(folder: Path, name: str = "notices.jsonl") -> FileCarrier:
    return FileCarrier(FileConfig(name="log", path=Path(name)), root=folder)


async def test_each_notification_is_one_line_that_only_the_owner_reads(tmp_path: Path) -> None:
    await carrier(tmp_path).carry(letter(), "")
    await carrier(tmp_path).carry(letter(letter_id=OTHER), "")

    path = tmp_path / "notices.jsonl"
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [ID, OTHER]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_stands_there_already_is_not_written_twice(tmp_path: Path) -> None:
    assert await carrier(tmp_path).carry(letter(), "") == "written to notices.jsonl"
    assert await carrier(tmp_path).carry(letter(), "") == "it stood in notices.jsonl already"

    assert len((tmp_path / "notices.jsonl").read_text().splitlines()) == 1


@given(cut=st.integers(0, 400))
def test_a_line_that_a_crash_has_cut_is_ended_and_written_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("file") / "notices.jsonl"
    first, second = letter(letter_id=OTHER).cloud_event() + b"\n", letter().cloud_event() + b"\n"
    path.write_bytes(first + second[: min(cut, len(second) - 1)])

    assert append_once(path, second[:-1], mark=ID)
    assert not append_once(path, second[:-1], mark=ID)

    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[0] == first
    assert lines[-1] == second
    assert lines.count(second) == 1


async def test_a_link_is_not_followed_and_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "notices.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FleetError):
        await carrier(tmp_path).carry(letter(), "")
    with pytest.raises(FleetError):
        await carrier(tmp_path, "nowhere/notices.jsonl").carry(letter(), "")
    with pytest.raises(FleetError):
        carrier(tmp_path, "nowhere/notices.jsonl").check()
    carrier(tmp_path, "new.jsonl").check()
    assert not (tmp_path / "elsewhere").exists()
