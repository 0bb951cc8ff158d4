"""`fleet init` cut off at any write: afterwards there is no home or a whole one; the next try succeeds."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.errors import BadInputError, FleetError, StorageFullError
from fleet.home import open_home
from fleet.ra.authority.initialise import Plan
from tests.disk import Disk
from tests.homes import authority_of, make_home

PLAN = Plan(fleet="acme", domains=("prod",))
KILLED = 77
NOBODY = 65534
STEPS = 14
"""How many places, evenly spread over all writes, are tried beside the moment when the home gets its name."""


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many writes a home takes; one or two more where the audit head is kept once in between."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, fault=lambda _number, _name: None)
        make_home(tmp_path_factory.mktemp("whole") / "home", plan=PLAN)
    return disk.count


def is_whole(place: Path) -> bool:
    authority_of(open_home(place)).unlock()
    return True


def kill_child(place: Path, fault: Callable[[int, str], None]) -> None:
    """Make a home in a process of its own, which `fault` kills."""
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                Disk(patch, fault=fault)
                make_home(place, plan=PLAN)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == KILLED


@pytest.mark.parametrize("step", range(STEPS))
def test_a_process_killed_at_any_write_leaves_no_home_and_the_next_try_succeeds(
    tmp_path: Path, writes: int, step: int
) -> None:
    at = 1 + step * (writes - 12) // (STEPS - 1)
    place = tmp_path / "home"
    kill_child(place, lambda number, _name: os._exit(KILLED) if number == at else None)
    assert not place.exists()
    make_home(place, plan=PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert is_whole(place)


def test_a_process_killed_just_before_the_home_gets_its_name_leaves_none(tmp_path: Path) -> None:
    place = tmp_path / "home"
    kill_child(place, lambda _number, name: os._exit(KILLED) if name == "rename" else None)
    assert not place.exists()
    make_home(place, plan=PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_process_killed_just_after_the_home_got_its_name_leaves_a_whole_one(tmp_path: Path) -> None:
    place = tmp_path / "home"
    kill_child(place, lambda _number, _name: os._exit(KILLED) if place.exists() else None)
    assert is_whole(place)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def make_on_failing_disk(place: Path, fault: Callable[[int, str], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, fault=fault)
        make_home(place, plan=PLAN)


FAULTS = [(errno.ENOSPC, StorageFullError), (errno.EIO, FleetError), (errno.EROFS, FleetError)]


@pytest.mark.parametrize(("code", "error"), FAULTS)
@pytest.mark.parametrize("step", range(STEPS))
def test_a_disk_that_fails_at_any_write_is_told_and_leaves_nothing(
    tmp_path: Path, writes: int, step: int, code: int, error: type[FleetError]
) -> None:
    at = 1 + step * (writes - 12) // (STEPS - 1)

    def fault(number: int, _name: str) -> None:
        if number >= at:  # a disk that is full or broken stays so
            raise OSError(code, os.strerror(code))

    with pytest.raises(error) as caught:
        make_on_failing_disk(tmp_path / "home", fault)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_get_its_name_leaves_nothing(tmp_path: Path) -> None:
    def fault(_number: int, name: str) -> None:
        if name == "rename":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.raises(BadInputError):
        make_on_failing_disk(tmp_path / "home", fault)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that everybody may read and nobody but root may write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        yield Path(folder)
        Path(folder).chmod(0o700)


def test_a_read_only_parent_is_told_and_left_alone(read_only_folder: Path) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)  # nothing is read-only to root
            with pytest.raises(BadInputError, match="permission denied") as caught:
                make_home(read_only_folder / "home", plan=PLAN)
            code = 0 if caught.value.hint else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert list(read_only_folder.iterdir()) == []
