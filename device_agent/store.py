"""The state folder: one record, replaced by one write; one lock; and the identity as other programs see it.

    record            what the agent keeps, see `core.stored`
    record.previous   the record before that, for the day the first cannot be read
    lock              held by the one agent process of this folder
    current -> gen-N  key.pem, cert.pem, chain.pem, trust.pem, servers.pem: follows the record, never leads it

It never decides, and never writes a record before it holds the lock.
"""

import fcntl
import logging
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from device_agent.core.stored import MAX_RECORD_BYTES, NewerRecordError, StoredRecord, decode, encode
from device_agent.errors import LockedError, StateError
from device_agent.files import (
    link_folder,
    make_folder,
    read_file,
    remove_file,
    state_error,
    sync_folder,
    temporary_of,
    write_file,
)
from device_agent.wire.problems import MalformedMessageError

_log = logging.getLogger(__name__)

RECORD = "record"
PREVIOUS = "record.previous"
LOCK = "lock"
CURRENT = "current"
_GENERATION = "gen-"


def _nobody(_length: int) -> None:
    """Stand in for somebody who counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the folder holds. `damaged` says that the record could not be read and the one before it was."""

    record: StoredRecord
    damaged: bool = False


class RecordStore:
    """The record of one state folder, under its lock."""

    def __init__(self, folder: Path, *, wrote: Callable[[int], None] = _nobody) -> None:
        """`wrote` is told how many bytes went into each file."""
        self._folder, self._wrote = folder, wrote

    @property
    def folder(self) -> Path:
        return self._folder

    def load(self) -> Loaded | None:
        """Return the record, or the one before it where that is damaged; None where there is none.

        Raises:
            StateError: neither can be read, or a newer agent has written it.
        """
        return load_record(self._folder)

    def save(self, record: StoredRecord) -> None:
        """Replace the record in one step; the one that it replaces is kept beside it.

        Raises:
            StateError: it cannot be written; the old one stands.
        """
        try:
            content = encode(record)
        except MalformedMessageError as error:
            raise StateError(str(error)) from error
        current = self._folder / RECORD
        held = read_file(current, most=MAX_RECORD_BYTES)
        if held is not None and _is_sound(held):
            self._write(self._folder / PREVIOUS, held)
        self._write(current, content)

    def keys_in_use(self) -> frozenset[str]:
        """Return the keys that the record or the one before it names; no other is needed by anybody."""
        found: set[str] = set()
        for name in (RECORD, PREVIOUS):
            content = read_file(self._folder / name, most=MAX_RECORD_BYTES)
            if content is not None:
                try:
                    found |= decode(content).keys
                except NewerRecordError as error:
                    raise StateError(f"{name} is of a newer agent, so no key is touched") from error
                except MalformedMessageError:
                    continue
        return frozenset(found)

    def publish(self, name: str, files: dict[str, bytes | Path]) -> None:
        """Make `current/` hold these files, all at once; a `Path` is linked instead of copied.

        Nothing is done where `current/` is of this name already.

        Raises:
            StateError: it cannot be written; the old one stands.
        """
        target = f"{_GENERATION}{name}"
        link = self._folder / CURRENT
        if link.is_symlink() and str(link.readlink()) == target and (link / "cert.pem").exists():
            return
        generation = self._folder / target
        make_folder(generation)
        for file, content in files.items():
            if isinstance(content, Path):
                link_folder(generation / file, os.path.relpath(content, generation))
            else:
                self._write(generation / file, content)
        link_folder(link, target)
        self._drop_generations(keep=target)

    def _write(self, path: Path, content: bytes) -> None:
        write_file(path, content)
        self._wrote(len(content))

    def erase(self) -> None:
        """Remove the records and `current/`, the way back first: a cut leaves the whole or nothing."""
        for name in (PREVIOUS, RECORD, CURRENT):
            remove_file(temporary_of(self._folder / name))
            remove_file(self._folder / name)
        self._drop_generations(keep=None)

    def _drop_generations(self, *, keep: str | None) -> None:
        for old in self._folder.glob(f"{_GENERATION}*"):
            if old.name != keep:
                shutil.rmtree(old, ignore_errors=True)
        sync_folder(self._folder)


def load_record(folder: Path) -> Loaded | None:
    """Read the record without the lock, as `RecordStore.load`: for a look, not for a decision."""
    content = read_file(folder / RECORD, most=MAX_RECORD_BYTES)
    before = read_file(folder / PREVIOUS, most=MAX_RECORD_BYTES)
    if content is None and before is None:
        return None
    try:
        return Loaded(record=decode(content or b""))
    except NewerRecordError as error:
        raise StateError(str(error), hint="use the newer agent, nothing was changed") from error
    except MalformedMessageError as error:
        return _fall_back(folder, before, error)


def _fall_back(folder: Path, before: bytes | None, error: MalformedMessageError) -> Loaded:
    try:
        record = decode(before or b"")
    except MalformedMessageError:
        raise StateError(
            f"{folder / RECORD} cannot be read, nor the one before it: {error}",
            hint="restore the state folder, or device-agent reset and enroll again with a new code",
        ) from error
    # The lost record may have given this number to another key; used twice, it would look like a clone.
    life = replace(record.life, attempt=record.life.attempt + 1)
    return Loaded(record=replace(record, life=life), damaged=True)


def _is_sound(content: bytes) -> bool:
    try:
        decode(content)
    except MalformedMessageError:
        return False
    return True


@contextmanager
def open_store(folder: Path) -> Iterator[RecordStore]:
    """Take the lock of a state folder, which is made where there is none.

    Raises:
        LockedError: another agent process holds it.
        StateError: the folder cannot be made or written.
    """
    make_folder(folder)
    _require_own(folder)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(folder / LOCK, flags, 0o600)
    except OSError as error:
        raise state_error(f"cannot open {folder / LOCK}", error) from error
    try:
        _lock(descriptor, folder)
        yield RecordStore(folder)
    finally:
        os.close(descriptor)


def _require_own(folder: Path) -> None:
    """Raise where root works for another user: what it leaves there, that user's agent could not read."""
    owner = folder.stat().st_uid
    if owner == os.geteuid():
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        raise StateError(f"{folder} is of a user who is not known here, number {owner}") from None
    raise StateError(f"{folder} is {name}'s", hint=f"runuser -u {name} -- device-agent ...")


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        # Two processes with one identity would look like a clone to the server (PROTOCOL 8, 8).
        raise LockedError(
            f"another agent process works in {folder}",
            hint="device-agent status shows it; stop it, or ask it: device-agent renew",
        ) from error
