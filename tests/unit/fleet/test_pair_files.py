"""A key and its certificate are switched in one step, wherever the machine dies."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.home import KeyPairFiles
from fleet.pair_files import in_force, pair_content, switch

MOST_WRITES = 60


def files_in(folder: Path) -> KeyPairFiles:
    return KeyPairFiles(certificate=folder / "tls.crt", key=folder / "tls.key")


def put(files: KeyPairFiles, name: str) -> None:
    switch(
        pair_content(files, key_pem=f"{name}\n".encode(), certificate_pem=f"{name}\n"),
        named=files.certificate,
    )


def plain(folder: Path, name: str) -> KeyPairFiles:
    files = files_in(folder)
    folder.mkdir()
    for path in (files.certificate, files.key):
        path.write_text(f"{name}\n")
    files.key.chmod(0o600)
    return files


def pair_of(files: KeyPairFiles) -> tuple[str, str]:
    return files.certificate.read_text().strip(), files.key.read_text().strip()


class KilledError(BaseException):
    """The process is dead; no `except Exception` may live on."""


def killed_at(number: int, act: Callable[[], None], patch: pytest.MonkeyPatch) -> bool:
    """Do something in a process that dies at its n-th write; tell whether it came so far."""
    left = number

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left <= 0:
                raise KilledError
            return call(*arguments, **options)

        return wrapped

    with patch.context() as patched:
        for name in ("fsync", "replace", "symlink", "mkdir", "open", "unlink"):
            patched.setattr(os, name, counted(getattr(os, name)))
        try:
            act()
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("renewals", [0, 1])
def test_whoever_dies_at_any_write_leaves_a_pair_that_fits(
    tmp_path: Path, renewals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # counted below, and slow
    kills = 0
    for number in range(1, MOST_WRITES):
        files = plain(tmp_path / str(number), "first")
        for renewal in range(renewals):
            put(files, f"renewal-{renewal}")
        before = pair_of(files)

        was_killed = killed_at(number, lambda: put(files, "new"), monkeypatch)  # noqa: B023 - called at once

        kills += was_killed
        assert pair_of(files) in {before, ("new", "new")}
        assert pair_of(in_force(files)) == pair_of(files)
        put(files, "after")
        assert pair_of(files) == ("after", "after")
    assert kills > 10


def test_a_reader_who_looked_before_the_switch_keeps_one_generation(tmp_path: Path) -> None:
    files = plain(tmp_path / "pair", "first")
    put(files, "second")

    found = in_force(files)

    assert found.key.parent == found.certificate.parent
    assert not found.key.is_symlink()
    assert pair_of(found) == ("second", "second")


def test_keys_that_were_replaced_are_gone_and_the_new_one_is_closed_to_others(tmp_path: Path) -> None:
    files = plain(tmp_path / "pair", "first")
    for name in ("second", "third"):
        put(files, name)

    generations = [path for path in (tmp_path / "pair" / ".tls").iterdir() if not path.is_symlink()]

    assert len(generations) == 1
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert files.certificate.stat().st_mode & 0o777 == 0o644


def test_a_file_that_somebody_put_in_place_of_ours_is_what_counts(tmp_path: Path) -> None:
    files = plain(tmp_path / "pair", "first")
    put(files, "second")
    for path in (files.certificate, files.key):
        path.unlink()
        path.write_text("restored\n")

    assert pair_of(in_force(files)) == ("restored", "restored")
    put(files, "third")
    assert pair_of(files) == ("third", "third")


def test_a_pair_that_is_not_there_yet_comes_into_being(tmp_path: Path) -> None:
    files = files_in(tmp_path / "new")
    files.key.parent.mkdir()

    put(files, "first")

    assert pair_of(files) == ("first", "first")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    files = files_in(tmp_path / "file" / "below")
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(FleetError, match=r"tls\.crt|below"):
        put(files, "first")
