"""Writes files that are whole or not there, and reads secrets only where nobody else can.

Temporary file with its final mode from the start, fsync, rename, fsync of the folder. Never follows a
symbolic link at the place that it writes or reads.
"""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from device_agent.wire.secret import Secret
from fleet.errors import BadInputError, FleetError, NotFoundError, StorageFullError

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
FOLDER_MODE = 0o700
OWNER_ALONE = 0o077
"""Mode bits that are off where nobody but the owner can read, write or enter."""
_LONGEST_SECRET = 64 * 1024

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_WRONG = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL})


def write_file(path: Path, data: bytes, *, mode: int = SECRET_MODE) -> None:
    """Replace a file atomically and durably.

    Raises:
        StorageFullError: the disk is full; the old content stands.
        BadInputError: the folder cannot be written.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    with telling(path):
        try:
            _write_new(temporary, data, mode)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def read_secret_bytes(path: Path, *, closed: int = OWNER_ALONE) -> bytes:
    """Read a file that only its owner, and we, can read; `closed` are the mode bits that must be off.

    Raises:
        NotFoundError: it is not there.
        BadInputError: it is a symbolic link, no regular file, somebody else's, or open to others.
    """
    with telling(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise NotFoundError(f"{path} is not there") from error
        try:
            _refuse_open_to_others(path, os.fstat(descriptor), closed)
            return os.read(descriptor, _LONGEST_SECRET)
        finally:
            os.close(descriptor)


def read_secret(path: Path, *, closed: int = OWNER_ALONE) -> Secret:
    """Read a passphrase: the first line of a file that only its owner can read.

    Raises:
        NotFoundError, BadInputError: as `read_secret_bytes`, or it holds no line of text.
    """
    try:
        line = read_secret_bytes(path, closed=closed).decode().partition("\n")[0].rstrip("\r")
    except UnicodeDecodeError:
        line = ""
    if not line:
        raise BadInputError(f"{path} holds no passphrase", hint="its first line must be the passphrase")
    return Secret(line)


def open_input(path: Path) -> BinaryIO:
    """Open a file that somebody named, to read it; whoever calls closes it.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        raise BadInputError(f"{path} cannot be read: {reason}", hint="name a file that is there") from error


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, that only its owner can enter."""
    with telling(path):
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Open a folder, for its lock; raises `FleetError` where that cannot be done."""
    with telling(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def take_lock(descriptor: int) -> bool:
    """Take the lock of an open file or folder (flock(2)), if nobody holds it; it ends with the descriptor."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn an `OSError` into the error of ours that says what to do about it."""
    try:
        yield
    except OSError as error:
        reason = f"{path}: {(error.strerror or 'input/output error').lower()}"
        if error.errno in _FULL:
            raise StorageFullError(reason, hint="make room on that disk, then run it again") from error
        if error.errno == errno.ELOOP:
            raise BadInputError(f"{path} is a symbolic link", hint="name the file itself") from error
        if error.errno in _CLOSED:
            raise BadInputError(reason, hint=f"let this user write and read {path.parent}") from error
        if error.errno in _WRONG:
            raise BadInputError(reason, hint="name another place") from error
        raise FleetError(reason, hint=f"check the disk of {path.parent}") from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # the umask must not take away what others need, nor the owner's own
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _refuse_open_to_others(path: Path, status: os.stat_result, closed: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BadInputError(f"{path} is no regular file", hint="name the file itself")
    if status.st_uid not in {os.geteuid(), 0}:
        raise BadInputError(f"{path} belongs to another user", hint=f"chown it to uid {os.geteuid()}")
    if status.st_mode & closed:
        raise BadInputError(f"{path} can be read by others", hint=f"chmod 600 {path}")
