"""Files that survive."""

import stat
from pathlib import Path

import pytest

from device_agent.errors import StateError
from device_agent.files import is_private, link_folder, make_folder, read_file, remove_file, write_file


def test_a_file_is_for_its_owner_alone_from_the_start(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"secret")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert is_private(tmp_path / "a")


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"one")
    (tmp_path / ".a.new").write_bytes(b"left by a power cut")
    write_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_is_not_followed_to_write_or_to_read(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"theirs")
    (tmp_path / ".a.new").symlink_to(elsewhere)
    (tmp_path / "a").symlink_to(elsewhere)
    write_file(tmp_path / "a", b"ours")
    assert elsewhere.read_bytes() == b"theirs"
    (tmp_path / "b").symlink_to(elsewhere)
    with pytest.raises(StateError, match="cannot read"):
        read_file(tmp_path / "b", most=100)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot write"):
        write_file(tmp_path / "no" / "a", b"x")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"12345")
    assert read_file(tmp_path / "a", most=5) == b"12345"
    with pytest.raises(StateError, match="larger"):
        read_file(tmp_path / "a", most=4)


def test_what_is_not_there_is_none_and_can_be_removed(tmp_path: Path) -> None:
    assert read_file(tmp_path / "a", most=5) is None
    remove_file(tmp_path / "a")


def test_a_link_to_a_folder_is_swapped(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_folder(tmp_path / name)
        link_folder(tmp_path / "current", name)
        assert str((tmp_path / "current").readlink()) == name
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o700
