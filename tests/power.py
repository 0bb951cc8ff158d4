"""A disk whose power is cut: every call that writes is counted, and at one of them the machine dies.

What was not synced by then is torn (a file has half of what was written) or never happened (a name in a
folder), as the kernel may have it; or it all did happen; or some of it did, in whatever order, sector by
sector and name by name. A test must survive each.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from random import Random

import pytest

_SECTOR = 512
"""What a disk writes whole or not at all."""


class PowerCutError(BaseException):
    """The machine is dead; no `except Exception` may live on."""


class Unsynced(Enum):
    """What becomes of that which was not synced."""

    LOST = auto()
    KEPT = auto()
    MIXED = auto()
    """Each sector and each name by chance."""


class Disk:
    """Counts the calls that write below one folder, and dies at number `cut_at`."""

    def __init__(self, folder: Path, *, cut_at: int | None, unsynced: Unsynced, seed: int) -> None:
        self._folder, self._cut_at, self._unsynced = folder, cut_at, unsynced
        self._chance = Random(f"{seed} {cut_at}")
        self._open: dict[int, Path] = {}
        self._torn: dict[Path, int] = {}
        self._undo: list[tuple[Path, Callable[[], None]]] = []
        self.calls = 0

    @property
    def is_dead(self) -> bool:
        return self._cut_at is not None and self.calls > self._cut_at

    @property
    def dies_next(self) -> Unsynced | None:
        """What becomes of the next call that changes something, where the power is cut in it."""
        return self._unsynced if self.calls == self._cut_at else None

    def step(self) -> None:
        """Count one call; raises `PowerCutError` at the one, and at each after it."""
        was_dead = self.is_dead
        self.calls += 1
        if not self.is_dead:
            return
        if not was_dead:
            self._die()
        raise PowerCutError

    def covers(self, path: Path) -> bool:
        return path.is_relative_to(self._folder)

    def opened(self, descriptor: int, path: Path, *, is_new: bool) -> None:
        self._open[descriptor] = path
        if is_new:
            self.later(path, lambda: path.unlink(missing_ok=True))

    def wrote(self, descriptor: int) -> None:
        if path := self._open.get(descriptor):
            self._torn[path] = path.stat().st_size

    def synced(self, descriptor: int) -> None:
        path = self._open.get(descriptor)
        if path is None:
            return
        self._torn.pop(path, None)
        self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]

    def moved(self, source: Path, target: Path) -> None:
        if source in self._torn:
            self._torn[target] = self._torn.pop(source)

    def later(self, path: Path, undo: Callable[[], None]) -> None:
        """Remember how a change of a name is undone, until its folder is synced."""
        self._undo.append((path.parent, undo))

    def _die(self) -> None:
        if self._unsynced is Unsynced.KEPT:
            return
        for path, size in self._torn.items():
            if path.exists():
                self._tear(path, size)
        for _, undo in reversed(self._undo):
            if self._is_lost():
                undo()

    def _is_lost(self) -> bool:
        return self._unsynced is Unsynced.LOST or self._chance.random() < 0.5

    def _tear(self, path: Path, size: int) -> None:
        if self._unsynced is Unsynced.LOST:
            os.truncate(path, size // 2)
            return
        content = bytearray(path.read_bytes())
        for start in range(0, size, _SECTOR):
            if self._is_lost():
                content[start : start + _SECTOR] = bytes(len(content[start : start + _SECTOR]))
        path.write_bytes(content[: self._chance.choice([size, self._chance.randrange(size + 1)])])


def _before(path: Path) -> Callable[[], None]:
    """Return what puts a path back as it is now."""
    target = path.readlink() if path.is_symlink() else None
    content = path.read_bytes() if target is None and path.is_file() else None
    mode = 0 if content is None else path.stat().st_mode

    def put_back() -> None:
        path.unlink(missing_ok=True)
        if target is not None:
            path.symlink_to(target)
        if content is not None:
            path.write_bytes(content)
            path.chmod(mode)

    return put_back


@contextmanager
def disk(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    cut_at: int | None = None,
    unsynced: Unsynced = Unsynced.LOST,
    seed: int = 0,
) -> Iterator[Disk]:
    """Put the disk under all that writes below `folder` while the body runs; `seed` makes its chances."""
    made = Disk(folder, cut_at=cut_at, unsynced=unsynced, seed=seed)
    with monkeypatch.context() as patch:
        _watch_files(patch, made)
        _watch_names(patch, made)
        yield made


def _watch_files(patch: pytest.MonkeyPatch, watched: Disk) -> None:
    real_open, real_write, real_close = os.open, os.write, os.close

    def opening(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        where = Path(path)
        is_new = bool(flags & os.O_CREAT) and watched.covers(where) and not where.exists()
        if is_new:
            watched.step()
        descriptor = real_open(path, flags, mode, dir_fd=dir_fd)
        if watched.covers(where) and flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY):
            watched.opened(descriptor, where, is_new=is_new)
        return descriptor

    def writing(descriptor: int, content: bytes) -> int:
        if descriptor in watched._open:
            watched.step()
        written = real_write(descriptor, content)
        watched.wrote(descriptor)
        return written

    def syncing(descriptor: int) -> None:
        if descriptor in watched._open:
            watched.step()
        watched.synced(descriptor)

    def closing(descriptor: int) -> None:
        watched._open.pop(descriptor, None)
        real_close(descriptor)

    for name, watch in (("open", opening), ("write", writing), ("fsync", syncing), ("close", closing)):
        patch.setattr(os, name, watch)


def _watch_names(patch: pytest.MonkeyPatch, watched: Disk) -> None:
    real_replace, real_unlink, real_symlink, real_mkdir = os.replace, os.unlink, os.symlink, os.mkdir

    def replacing(source: str | Path, target: str | Path) -> None:
        from_path, to_path = Path(source), Path(target)
        watched.step()
        back, again = _before(to_path), _before(from_path)
        real_replace(source, target)
        watched.moved(from_path, to_path)
        watched.later(to_path, back)
        watched.later(from_path, again)

    def unlinking(path: str | Path, *, dir_fd: int | None = None) -> None:
        where = Path(path)
        if dir_fd is not None or watched.is_dead or not os.path.lexists(where):
            real_unlink(path, dir_fd=dir_fd)
            return
        watched.step()
        back = _before(where)
        real_unlink(path)
        watched.later(where, back)

    def linking(target: str, path: str | Path, *more: bool) -> None:
        watched.step()
        real_symlink(target, path, *more)
        watched.later(Path(path), lambda: Path(path).unlink(missing_ok=True))

    def making(path: str | Path, mode: int = 0o777) -> None:
        watched.step()
        real_mkdir(path, mode)
        watched.later(Path(path), lambda: shutil.rmtree(path, ignore_errors=True))

    for name, watch in (
        ("replace", replacing),
        ("unlink", unlinking),
        ("symlink", linking),
        ("mkdir", making),
    ):
        patch.setattr(os, name, watch)
