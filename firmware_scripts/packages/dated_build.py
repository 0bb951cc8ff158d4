"""Writes the moment of a build into `device_agent/released.py`: the floor of each device's clock.

The moment is SOURCE_DATE_EPOCH (reproducible-builds.org), else that of the newest commit: the same source
gives the same bytes. The module stands alone, for setuptools loads it before the project can be imported.
"""

import os
import subprocess
import time
from pathlib import Path

from setuptools.command.build_py import build_py

_LINE = "RELEASED = datetime.fromtimestamp("
_FIRST = 315532800
"""1980: no archive of ZIP's kind has an earlier time."""


class UndatedError(ValueError):
    """Nothing says when this build is made, or it says what cannot be."""


def moment_of_build(source: Path) -> int:
    """Return the moment, in seconds since 1970.

    Raises:
        UndatedError: there is neither the variable nor a commit, or it is no moment before now.
    """
    told = os.environ.get("SOURCE_DATE_EPOCH", "") or _newest_commit(source)
    if not told.isascii() or not told.isdecimal() or int(told) < _FIRST:
        raise UndatedError("nothing dates this build: set SOURCE_DATE_EPOCH, in seconds since 1970")
    if int(told) > time.time():
        # As a floor of the clock, it would keep every device from connecting until then.
        raise UndatedError(f"the moment of this build, {told}, is in the future")
    return int(told)


def dated(module: str, moment: int) -> str:
    """Return the text of `released.py` with a moment; raises ValueError where it has no place for one."""
    lines = [f"{_LINE}{moment}, UTC)" if line.startswith(_LINE) else line for line in module.splitlines()]
    if sum(line.startswith(_LINE) for line in lines) != 1:
        raise ValueError("released.py has not one line that a build can date")
    return "\n".join(lines) + "\n"


class DatedBuild(build_py):  # type: ignore[misc] # setuptools ships no types
    """Builds as ever, then dates what was built; a tree that is used where it lies stays as it is."""

    def run(self) -> None:
        super().run()
        built = Path(self.build_lib) / "device_agent/released.py"
        if self.editable_mode or not built.exists():
            return
        try:
            built.write_text(dated(built.read_text(), moment_of_build(Path.cwd())))
        except UndatedError as error:
            self.announce(f"{error}; the floor of the clock stays that of the source", level=3)


def _newest_commit(source: Path) -> str:
    try:
        told = subprocess.run(
            ["git", "-C", source, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return told.stdout.strip()
