"""The fleet home: made whole or not at all, never over something, held by one process at a time."""

from pathlib import Path

import pytest

from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.files import write_file
from fleet.home import Home, open_home
from fleet.new_home import new_home


class InterruptionError(Exception):
    """Whatever stops the making of a home."""


def fill(home: Home) -> None:
    write_file(home.config, b"")
    write_file(home.database, b"")


def interrupt(home: Home) -> None:
    fill(home)
    raise InterruptionError


def put_letter(folder: Path) -> None:
    folder.mkdir()
    (folder / "letter").touch()


def test_a_home_appears_whole_when_it_is_finished(tmp_path: Path) -> None:
    place = tmp_path / "home"
    with new_home(place) as staged:
        fill(staged)
        assert not place.exists()
    assert open_home(place) == Home(place)
    assert place.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == [place]


def test_folders_above_a_home_are_made_too(tmp_path: Path) -> None:
    with new_home(tmp_path / "a" / "b" / "home") as staged:
        fill(staged)
    assert open_home(tmp_path / "a" / "b" / "home").config.exists()


def test_an_empty_folder_may_become_a_home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    with new_home(tmp_path / "home") as staged:
        fill(staged)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_nothing_stays_when_the_making_fails(tmp_path: Path) -> None:
    with pytest.raises(InterruptionError), new_home(tmp_path / "home") as staged:
        interrupt(staged)
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_never_made_over_another(tmp_path: Path) -> None:
    with new_home(tmp_path / "home") as staged:
        fill(staged)
    write_file(tmp_path / "home" / "fleet.toml", b"precious")
    with pytest.raises(RefusedError, match="is a fleet home already") as caught, new_home(tmp_path / "home"):
        pytest.fail("it began to make one")
    assert caught.value.hint
    assert (tmp_path / "home" / "fleet.toml").read_bytes() == b"precious"


def test_a_home_is_never_made_over_files_of_somebody(tmp_path: Path) -> None:
    put_letter(tmp_path / "home")
    with pytest.raises(RefusedError, match="not empty"), new_home(tmp_path / "home"):
        pytest.fail("it began to make one")


@pytest.mark.parametrize("what", ["file", "link", "dangling link"])
def test_a_home_is_never_made_in_place_of_something_that_is_no_folder(tmp_path: Path, what: str) -> None:
    place = tmp_path / "home"
    match what:
        case "file":
            place.touch()
        case "link":
            (tmp_path / "elsewhere").mkdir()
            place.symlink_to(tmp_path / "elsewhere")
        case _:
            place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RefusedError, match="not a folder"), new_home(place):
        pytest.fail("it began to make one")


def test_files_that_come_to_the_place_meanwhile_are_kept(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="not empty"), new_home(tmp_path / "home"):
        put_letter(tmp_path / "home")
    assert (tmp_path / "home" / "letter").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_what_a_power_cut_left_is_swept_by_the_next_making(tmp_path: Path) -> None:
    left = tmp_path / ".home.0011223344556677.partial"
    left.mkdir()
    (left / "ca.key").touch()
    with new_home(tmp_path / "home") as staged:
        fill(staged)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_making_that_still_runs_is_not_swept(tmp_path: Path) -> None:
    with new_home(tmp_path / "home") as one:
        fill(one)
        with pytest.raises(InterruptionError), new_home(tmp_path / "home"):
            raise InterruptionError
        assert one.config.exists()
    assert open_home(tmp_path / "home")


def test_a_parent_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((BadInputError, RefusedError)) as caught, new_home(tmp_path / "file" / "home"):
        pytest.fail("it began to make one")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_home_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        open_home(tmp_path / name)
    assert "fleet init" in str(caught.value.hint)


def test_a_home_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.lock():
        with pytest.raises(RefusedError, match="in use") as caught, home.lock():
            pytest.fail("two hold it")
        assert caught.value.hint
    with home.lock():
        pass


def test_an_error_of_those_who_hold_the_home_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Home(tmp_path).lock():
        (tmp_path / "missing").read_bytes()


def test_every_path_stands_inside_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    properties = [name for name, value in vars(Home).items() if isinstance(value, property)]
    for name in properties:
        value = getattr(home, name)
        paths = [value] if isinstance(value, Path) else [value.certificate, value.key]
        assert all(path.is_relative_to(tmp_path) for path in paths), name
