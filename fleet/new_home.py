"""The making of a fleet home: whole, or not there.

It never overwrites one, and never leaves one half made.
"""

import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet.errors import RefusedError
from fleet.files import FOLDER_MODE, make_folder, open_folder, sync_folder, take_lock, telling
from fleet.home import Home


@contextmanager
def new_home(root: Path) -> Iterator[Home]:
    """Make a home in a folder beside its place, and move it there when all of it is on the disk.

    On any failure the folder goes away; what a power cut leaves is removed by the next `new_home` there.

    Raises:
        RefusedError: something is there already.
        StorageFullError, BadInputError: the place cannot be written.
    """
    place = root.absolute()
    _refuse_taken(place)
    make_folder(place.parent)
    _sweep(place)
    staged = place.parent / f".{place.name}.{secrets.token_hex(8)}.partial"
    with telling(place):
        staged.mkdir(mode=FOLDER_MODE)
        with open_folder(staged) as descriptor:
            try:
                take_lock(descriptor)
                yield Home(staged)
                _sync_tree(staged)
                _refuse_taken(place)
                # rename(2) replaces an empty folder only: nothing that holds a file can be lost here.
                staged.rename(place)
            except BaseException:
                shutil.rmtree(staged, ignore_errors=True)
                raise
        sync_folder(place.parent)


def _refuse_taken(place: Path) -> None:
    with telling(place):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise RefusedError(f"{place} is not a folder", hint="name a new folder with --home")
        if place.is_dir() and next(place.iterdir(), None) is not None:
            what = "is a fleet home already" if (place / "fleet.toml").exists() else "is not empty"
            raise RefusedError(f"{place} {what}", hint="name a new folder with --home")


def _sweep(place: Path) -> None:
    """Remove what an `init` that was cut off has left; one that still runs holds its folder's lock."""
    for stale in place.parent.glob(f".{glob.escape(place.name)}.*.partial"):
        with suppress(OSError), open_folder(stale) as descriptor:
            if take_lock(descriptor):
                shutil.rmtree(stale, ignore_errors=True)


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            descriptor = os.open(Path(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(folder))
