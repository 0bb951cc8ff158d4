"""The store on SQLite: one writer that commits many units of work at once, and readers beside it.

It remembers and never decides. Nobody is answered before the commit is on the disk, and no state is
held in memory that a failed commit could make untrue.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite

from fleet.errors import FleetError, StorageFullError, StoreError
from fleet.ports import Work
from fleet.store.connections import Place, Sealing, commit, connect_reader, connect_writer, hop, snapshot
from fleet.store.faults import os_store_error, primary_code, store_error
from fleet.store.migrate import known_migrations, migrate
from fleet.store.units import PendingUnit, Unit

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_Argument = TypeVar("_Argument")

MAX_BATCH = 256
"""Units that share a commit at most: the first one waits for the last."""

BUSY_TIMEOUT = timedelta(seconds=5)
KEEP_WITHIN_SECONDS = 1.0
"""How far the head outside of the database may lag behind."""

SEARCH_WITHIN = timedelta(seconds=10)
"""How long a search may take."""
_READERS = 3
_MODE = 0o600


class SqliteStore:
    """`fleet.ports.Store` on one SQLite database; made by `open_store`, `create_store`, `memory_store`."""

    def __init__(
        self,
        place: Place,
        *,
        writer: aiosqlite.Connection,
        readers: Sequence[aiosqlite.Connection],
        sealing: Sealing | None,
    ) -> None:
        self._place = place
        self._writer = writer
        self._sealing = sealing
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        for reader in readers:
            self._readers.put_nowait(reader)
        self._waiting: asyncio.Queue[Unit | None] = asyncio.Queue()
        self._searching = asyncio.Semaphore(1)
        self._ended = asyncio.Event()
        self._closing = False
        self._keep_at: float | None = None
        self._is_doubtful = False

    async def write(self, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
        """Run a unit of work alone, commit it durably, return its result; see `fleet.ports.Store`."""
        return await self._hand_in(PendingUnit(work, argument, writes=True))

    async def read(self, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
        """Run a unit that only reads, on a snapshot of what was committed."""
        if self._place.is_memory:
            return await self._hand_in(PendingUnit(work, argument, writes=False))
        self._require_open()
        connection = await self._readers.get()
        try:
            return await hop(connection, partial(snapshot, work=work, argument=argument))
        except sqlite3.Error as error:
            raise store_error(error) from error
        finally:
            self._readers.put_nowait(connection)

    async def search(self, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
        """Run what somebody asks in his own words: one at a time, and no longer than it may take.

        The other readers stay with the devices.
        """
        if self._place.is_memory:
            return await self._hand_in(PendingUnit(work, argument, writes=False))
        self._require_open()
        async with self._searching:
            connection = await self._readers.get()
            try:
                return await hop(
                    connection, partial(snapshot, work=work, argument=argument, within=SEARCH_WITHIN)
                )
            except sqlite3.Error as error:
                raise store_error(error) from error
            finally:
                self._readers.put_nowait(connection)

    async def close(self) -> None:
        """Finish the units that were handed in, and let go of the files."""
        if not self._closing:
            self._closing = True
            self._waiting.put_nowait(None)
        await self._ended.wait()

    async def run(self) -> None:
        """Commit what is handed in, until `close`. Whoever makes a store runs this, once."""
        try:
            while units := await self._next_batch():
                await self._commit(units)
            await self._keep_head()
        finally:
            self._closing = True
            await self._let_go()
            self._ended.set()

    async def _hand_in(self, unit: PendingUnit[_Argument, _Result]) -> _Result:
        self._require_open()
        self._waiting.put_nowait(unit)
        return await unit.future

    def _require_open(self) -> None:
        if self._closing:
            raise StoreError("the store is closed", hint="start the server again: fleet serve")

    async def _next_batch(self) -> list[Unit]:
        """Return what waits, at least one unit; nothing once the store is closing."""
        first = await self._next_unit()
        units = [] if first is None else [first]
        while units and len(units) < MAX_BATCH and not self._waiting.empty():
            unit = self._waiting.get_nowait()
            if unit is None:
                self._waiting.put_nowait(None)
                break
            units.append(unit)
        return units

    async def _next_unit(self) -> Unit | None:
        while True:
            try:
                async with asyncio.timeout_at(self._keep_at):
                    return await self._waiting.get()
            except TimeoutError:
                await self._keep_head()

    async def _commit(self, units: list[Unit]) -> None:
        wanted = [unit for unit in units if unit.is_wanted]
        try:
            if self._is_doubtful:
                await self._reopen()
            await hop(self._writer, partial(commit, units=wanted, sealing=self._sealing))
        except sqlite3.Error as error:
            self._is_doubtful = self._is_doubtful or primary_code(error) == sqlite3.SQLITE_IOERR
            _fail(wanted, store_error(error), cause=error)
        except FleetError as error:
            _fail(wanted, error, cause=error)
        except BaseException as error:
            _fail(wanted, StoreError("the store broke", hint="see the log of the server"), cause=error)
            raise
        else:
            for unit in wanted:
                unit.settle()
            await self._note_head()

    async def _reopen(self) -> None:
        """Read again what is on the disk: a commit that failed with an I/O error may be there."""
        with contextlib.suppress(sqlite3.Error):
            await self._writer.close()
        self._writer = await connect_writer(self._place)
        self._is_doubtful = False

    async def _note_head(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._keep_at is None:
            self._keep_at = now + KEEP_WITHIN_SECONDS
        elif self._keep_at <= now:
            await self._keep_head()

    async def _keep_head(self) -> None:
        self._keep_at = None
        if self._sealing is None or self._is_doubtful:
            return
        sealing = self._sealing
        try:
            await hop(self._writer, lambda _connection: sealing.keep())
        except FleetError as error:
            # The head is in the database all the same; the next commit tries again.
            _log.error("the audit head could not be kept outside of the database: %s", error)

    async def _let_go(self) -> None:
        while not self._waiting.empty():
            if unit := self._waiting.get_nowait():
                unit.fail(StoreError("the store is closed", hint="start the server again: fleet serve"))
        while not self._readers.empty():
            await self._readers.get_nowait().close()
        with contextlib.suppress(sqlite3.Error):  # what was answered is on the disk already
            await self._writer.close()


@asynccontextmanager
async def open_store(
    path: Path, *, seal: Sealing | None = None, busy_timeout: timedelta = BUSY_TIMEOUT
) -> AsyncIterator[SqliteStore]:
    """Open the database of a fleet home, bring it to the newest schema, and run its writer.

    Raises:
        StoreError: it is not there, in use, damaged, or of a schema that this program does not know.
    """
    with _owned(path):
        async with _running(Place(path=str(path), busy_timeout=busy_timeout), seal) as store:
            yield store


@asynccontextmanager
async def create_store(path: Path, *, seal: Sealing | None = None) -> AsyncIterator[SqliteStore]:
    """Make a new database, readable by its owner alone, and run its writer.

    Raises:
        StoreError: something is there already, or the file cannot be made.
    """
    _make(path)
    async with open_store(path, seal=seal) as store:
        yield store


@asynccontextmanager
async def memory_store(*, seal: Sealing | None = None) -> AsyncIterator[SqliteStore]:
    """Run a store in memory, which is gone at the end."""
    async with _running(Place(path=":memory:", busy_timeout=BUSY_TIMEOUT), seal) as store:
        yield store


@asynccontextmanager
async def _running(place: Place, sealing: Sealing | None) -> AsyncIterator[SqliteStore]:
    store = await _connected(place, sealing)
    raised: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        group.create_task(store.run())
        # An error of the body is none of the group's: it comes out as it is, not in a group of one.
        try:
            await store.write(migrate, known_migrations())
            yield store
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised = error
        await store.close()
    if raised is not None:
        raise raised


async def _connected(place: Place, sealing: Sealing | None) -> SqliteStore:
    connections: list[aiosqlite.Connection] = []
    try:
        connections.append(await connect_writer(place))
        for _ in range(0 if place.is_memory else _READERS):
            connections.append(await connect_reader(place))  # noqa: PERF401 - what was opened must be closed
    except sqlite3.Error as error:
        for connection in connections:
            await connection.close()
        raise store_error(error) from error
    return SqliteStore(place, writer=connections[0], readers=connections[1:], sealing=sealing)


@contextmanager
def _owned(path: Path) -> Iterator[None]:
    """Hold the database for this process alone."""
    lock = _lock(path)
    try:
        yield
    finally:
        os.close(lock)


def _lock(path: Path) -> int:
    """Lock a file beside the database: closing the database's own would end the locks SQLite has on it."""
    try:
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "no database", str(path))
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    except OSError as error:
        raise os_store_error(error, path) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StoreError(
            f"{path} is in use by another process", hint="only one server at a time: stop the other one"
        ) from error
    return lock


def _make(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _MODE))
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise os_store_error(error, path) from error


def _fail(units: list[Unit], error: FleetError, *, cause: BaseException) -> None:
    kind = StorageFullError if isinstance(error, StorageFullError) else StoreError
    for unit in units:
        # Each caller gets an exception of its own: a shared one would collect everybody's traceback.
        told = kind(str(error), hint=error.hint)
        told.__cause__ = cause
        unit.fail(told)
