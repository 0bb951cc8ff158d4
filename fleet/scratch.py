"""A folder for work that leaves nothing behind: of one process at a time, as closed as the home it is in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import RefusedError
from fleet.files import make_folder, open_folder, take_lock


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Make a folder anew, and remove it whatever happens; what a killed process left there goes first.

    Raises:
        RefusedError: another process works there.
        FleetError: the folder cannot be made.
    """
    make_folder(folder)
    with open_folder(folder) as descriptor:
        if not take_lock(descriptor):
            raise RefusedError(
                f"another {folder.name} of this home is under way", hint="wait until it has ended"
            )
        try:
            for stale in folder.iterdir():
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
