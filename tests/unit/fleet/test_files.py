"""Files: whole or not there, with their mode from the start, and secrets only where nobody else reads."""

import errno
import os
from pathlib import Path

import pytest

from fleet.errors import BadInputError, FleetError, NotFoundError, StorageFullError
from fleet.files import make_folder, read_secret, read_secret_bytes, telling, write_file


def test_a_file_is_written_with_its_content_and_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_file(tmp_path / "public", b"one", mode=0o644)
        write_file(tmp_path / "secret", b"two")
    finally:
        os.umask(before)
    assert (tmp_path / "public").read_bytes() == b"one"
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_file_is_replaced_and_nothing_else_stays_in_the_folder(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        write_file(tmp_path / "file", content)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"new")]


def test_a_symbolic_link_at_the_place_is_replaced_and_never_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "file").symlink_to(target)
    write_file(tmp_path / "file", b"new")
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_the_old_content_stands_when_the_disk_is_full(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "file", b"old")

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StorageFullError, match="no space left") as caught:
        write_file(tmp_path / "file", b"new")
    assert caught.value.hint
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EACCES, BadInputError),
        (errno.EPERM, BadInputError),
        (errno.EROFS, BadInputError),
        (errno.ELOOP, BadInputError),
        (errno.EIO, FleetError),
        (errno.ENOENT, FleetError),
    ],
)
def test_each_fault_of_the_system_is_one_error_with_a_way_out(code: int, error: type[FleetError]) -> None:
    with pytest.raises(FleetError) as caught, telling(Path("/x/y")):
        raise OSError(code, os.strerror(code))
    assert type(caught.value) is error
    assert "/x/y" in str(caught.value)
    assert caught.value.hint


def test_folders_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    make_folder(tmp_path / "one")
    make_folder(tmp_path / "one")
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700


def test_the_first_line_of_a_secret_file_is_the_secret(tmp_path: Path) -> None:
    write_file(tmp_path / "secret", b"  a b \r\nanother\n")
    assert read_secret(tmp_path / "secret").reveal() == "  a b "


def test_a_secret_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_secret_bytes(tmp_path / "secret")


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(BadInputError):
        read_secret_bytes(tmp_path)


def test_a_secret_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "secret", b"x\n")
    if os.geteuid() == 0:
        os.chown(tmp_path / "secret", 12345, 12345)  # only root can give a file away
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(BadInputError, match="another user"):
        read_secret(tmp_path / "secret")
