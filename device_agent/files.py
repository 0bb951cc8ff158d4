"""Files that survive a power cut: temporary, fsync, rename, fsync folder, with the mode set at creation.

It never follows a symbolic link to write, and never shows what a file holds in an error.
"""

import contextlib
import os
import stat
from pathlib import Path

from device_agent.errors import StateError

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
_CHUNK = 1 << 20


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter, durably; no error where it exists.

    Raises:
        StateError: it cannot be made.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER)
    except FileExistsError:
        return
    except OSError as error:
        raise state_error(f"cannot make the folder {folder}", error) from error
    sync_folder(folder.parent)


def write_file(path: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Replace a file in one step: after a cut, there is the whole old one or the whole new one.

    Raises:
        StateError: disk full, read-only or not permitted; the old file stands.
    """
    temporary = temporary_of(path)
    try:
        remove_file(temporary)
        _write_new(temporary, content, mode)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise state_error(f"cannot write {path}", error) from error


def temporary_of(path: Path) -> Path:
    """Return where a file is written before it takes its place; a cut may leave it there."""
    return path.with_name(f".{path.name}.new")


def link_folder(link: Path, target: str) -> None:
    """Point a symbolic link at a folder beside it, in one step; raises as `write_file`."""
    temporary = temporary_of(link)
    try:
        remove_file(temporary)
        temporary.symlink_to(target)
        temporary.replace(link)
        sync_folder(link.parent)
    except OSError as error:
        raise state_error(f"cannot replace {link}", error) from error


def remove_file(path: Path) -> None:
    """Remove a file or a link; no error where there is none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise state_error(f"cannot remove {path}", error) from error
    sync_folder(path.parent)


def read_file(path: Path, *, most: int) -> bytes | None:
    """Return what a file holds, None where there is none.

    Raises:
        StateError: it is a link, larger than `most` bytes, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise state_error(f"cannot read {path}", error) from error
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise StateError(f"{path} is larger than {most} bytes", hint="device-agent doctor")
    return content


def is_private(path: Path) -> bool:
    """Tell whether nobody but the owner can read or write a file."""
    return stat.S_IMODE(path.stat(follow_symlinks=False).st_mode) & 0o077 == 0


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        at = 0
        while at < len(content):
            at += os.write(descriptor, content[at : at + _CHUNK])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def state_error(what: str, error: OSError) -> StateError:
    """Return what a file or folder of the device refused, and what to do about it."""
    return StateError(f"{what}: {os.strerror(error.errno or 0).lower()}", hint=_HINTS.get(error.errno or 0))


_HINTS: dict[int, str] = {
    28: "free some space on the disk, then try again",
    30: "the state folder must be on a file system that can be written",
    20: "--state names a folder",
    13: "run it as the owner of the state folder",
    40: "a symbolic link stands where a file belongs; remove it",
}
