"""What SQLite's errors mean to those who use the store."""

import errno
import os
import sqlite3
from pathlib import Path

from fleet.errors import StorageFullError, StoreError

_PRIMARY = 0xFF
"""The low octet of an extended result code is its primary code (sqlite.org/rescode.html)."""

_MEANINGS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: (
        "the database is locked by another program",
        "end the program that writes to it; fleet is its only writer",
    ),
    sqlite3.SQLITE_LOCKED: (
        "the database is locked by another program",
        "end the program that writes to it; fleet is its only writer",
    ),
    sqlite3.SQLITE_READONLY: (
        "the database cannot be written",
        "give the user of fleet the right to write it, and its folder",
    ),
    sqlite3.SQLITE_PERM: ("the database cannot be opened", "give the user of fleet the right to read it"),
    sqlite3.SQLITE_CANTOPEN: (
        "the database cannot be opened",
        "give the user of fleet the right to write it, and its folder",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk failed while the database was used; the last act may or may not have happened",
        "check the disk, then ask again: a repeated request gets the same certificate",
    ),
    sqlite3.SQLITE_CORRUPT: ("the database is damaged", "restore the fleet home from a backup"),
    sqlite3.SQLITE_NOTADB: ("the file is no database", "restore the fleet home from a backup"),
}


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 where the module itself raised the error."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & _PRIMARY


def store_error(error: sqlite3.Error) -> StoreError:
    """Return what to tell; the caller raises it from the error."""
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return StorageFullError(
            "the disk is full; nothing of this was kept", hint="free space, then ask again"
        )
    if code in _MEANINGS:
        message, hint = _MEANINGS[code]
        return StoreError(message, hint=hint)
    return StoreError(f"the store refused a statement: {error}", hint="report this as a defect")


def os_store_error(error: OSError, path: Path) -> StoreError:
    """Return what to tell when a file of the database could not be made or opened."""
    if error.errno == errno.ENOSPC:
        return StorageFullError(f"the disk of {path} is full", hint="free space, then try again")
    if error.errno == errno.EEXIST:
        return StoreError(f"{path} exists already", hint="choose another folder: nothing is overwritten")
    if error.errno == errno.ENOENT:
        return StoreError(f"there is no {path}", hint="fleet init makes a fleet home")
    return StoreError(
        f"{path} cannot be opened: {os.strerror(error.errno or 0)}",
        hint="give the user of fleet the right to write it, and its folder",
    )
