"""One SQLite file of a station, and the one thread that touches it: lanes that come at once share a commit.

Nobody is answered before the commit is on the disk. A unit of work that fails takes back what it did, and
nothing of its neighbours.
"""

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, Self, TypeAlias, TypeVar

from fleet.errors import FleetError, StorageFullError, StoreError

_Result = TypeVar("_Result")

Work: TypeAlias = Callable[[sqlite3.Connection], _Result]
"""Runs in the writer's thread, inside a transaction; it must not begin or end one."""

MAX_BATCH = 256
_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 5000")


class _Pending(Protocol):
    """A unit of work of any result, as the writer's thread sees it."""

    error: Exception | None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits."""
        ...

    def do(self, connection: sqlite3.Connection) -> None:
        """Run the work inside a savepoint; what it raises is kept for who waits."""
        ...

    def settle(self) -> None:
        """Tell who waits. On the event loop."""
        ...


@dataclass(slots=True)
class _Unit(Generic[_Result]):
    """One unit of work, and who waits for it."""

    work: Work[_Result]
    future: "asyncio.Future[_Result]"
    result: list[_Result] = field(default_factory=list)
    error: Exception | None = None

    @property
    def is_wanted(self) -> bool:
        return not self.future.cancelled()

    def do(self, connection: sqlite3.Connection) -> None:
        connection.execute("SAVEPOINT unit")
        try:
            self.result.append(self.work(connection))
        except Exception as error:  # noqa: BLE001 - handed to who waits, in `settle`
            self.error = error
            if connection.in_transaction:
                connection.execute("ROLLBACK TO unit")
        if connection.in_transaction:
            connection.execute("RELEASE unit")

    def settle(self) -> None:
        if self.future.cancelled():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result[0])


class GroupWriter:
    """`opened` makes it; `run` may be called from any number of tasks of one event loop."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, what: str) -> None:
        self._connection = connection
        self._thread = thread
        self._what = what
        self._waiting: deque[_Pending] = deque()
        self._is_busy = False
        self._loop = asyncio.get_running_loop()

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, path: Path, *, what: str, prepare: Callable[[sqlite3.Connection], None]
    ) -> AsyncIterator[Self]:
        """Open the file, or make it with mode 0600; `prepare` makes its tables, `what` names it in errors.

        Raises:
            StoreError: it cannot be opened or written.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="station-writer")
        loop = asyncio.get_running_loop()
        try:
            connection = await loop.run_in_executor(thread, _open, path, what, prepare)
            try:
                yield cls(connection, thread, what)
            finally:
                await loop.run_in_executor(thread, connection.close)
        finally:
            thread.shutdown(wait=False)

    async def run(self, work: Work[_Result]) -> _Result:
        """Do a unit of work, and return its result once it is on the disk.

        Raises:
            StorageFullError: the disk is full; nothing of it was kept.
            StoreError: the file cannot be used.
            FleetError: whatever the work itself raises; nothing of it was kept.
        """
        unit: _Unit[_Result] = _Unit(work, self._loop.create_future())
        self._waiting.append(unit)
        if not self._is_busy:
            self._begin()
        return await unit.future

    def _begin(self) -> None:
        units = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
        self._is_busy = True
        done = self._thread.submit(self._commit, units)
        done.add_done_callback(lambda future: self._come_back(future, units))

    def _come_back(self, done: "Future[None]", units: Iterable[_Pending]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, done, units)

    def _settle(self, done: "Future[None]", units: Iterable[_Pending]) -> None:
        broken = done.exception()
        for unit in units:
            if isinstance(broken, FleetError):
                # Each gets an exception of its own: a shared one would collect everybody's traceback.
                unit.error = type(broken)(str(broken), hint=broken.hint)
            elif broken is not None:
                unit.error = StoreError(f"{self._what} broke: {broken}")
            unit.settle()
        self._is_busy = False
        if self._waiting:
            self._begin()

    def _commit(self, units: Iterable[_Pending]) -> None:
        connection = self._connection
        wanted = [unit for unit in units if unit.is_wanted]
        with told(self._what):
            connection.execute("BEGIN IMMEDIATE")
            try:
                for unit in wanted:
                    unit.do(connection)
                    if not connection.in_transaction:  # SQLite gave the whole of it up, as when it is full
                        raise unit.error or StoreError(f"{self._what} took a commit back")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        for unit in wanted:
            unit.error = _translated(unit.error, self._what)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what SQLite and the system say of a file into this project's errors."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise _store_error(error, what) from error


def _translated(error: Exception | None, what: str) -> Exception | None:
    return _store_error(error, what) if isinstance(error, sqlite3.Error) else error


def _store_error(error: sqlite3.Error | OSError, what: str) -> StoreError:
    if isinstance(error, OSError):
        return StoreError(f"{what} cannot be opened: {error.strerror}")
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StorageFullError(f"the disk of {what} is full", hint="make room; nothing was lost")
    return StoreError(f"{what} cannot be used: {error}")


def _open(path: Path, what: str, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    with told(what):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, isolation_level=None)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN IMMEDIATE")
        prepare(connection)
        connection.execute("COMMIT")
    return connection
