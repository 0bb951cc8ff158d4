"""Connections to one SQLite database, and what runs in their threads: a batch of units, or a snapshot.

A batch is one transaction: WAL with synchronous=FULL, so that what was committed survives a power cut.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

import aiosqlite

from fleet.errors import BadInputError, StoreError
from fleet.ports import Row, Transaction, Value, Work
from fleet.store.faults import store_error
from fleet.store.units import Unit, drive

_Result = TypeVar("_Result")
_Argument = TypeVar("_Argument")

_STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock: less than a millisecond."""
_WAL_LIMIT_BYTES = 64 * 1024 * 1024


class Sealing(Protocol):
    """What closes every commit: a signed tree head of the audit trail."""

    async def sign(self, tx: Transaction) -> None:
        """Sign a head over the entries of this commit, if it added any; part of the commit."""
        ...

    def committed(self) -> None:
        """Learn that what `sign` made was committed."""
        ...

    def keep(self) -> None:
        """Write the newest committed head outside of the database; may block. Raises FleetError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the database is; `:memory:` keeps it in the memory of its one connection."""

    path: str
    busy_timeout: timedelta

    @property
    def is_memory(self) -> bool:
        return self.path == ":memory:"


class SqliteTransaction:
    """SQL on one connection, in its thread; errors come out as `StoreError`."""

    __slots__ = ("_connection", "failure")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.failure: StoreError | None = None
        """The newest error, for the case that it ended the whole transaction."""

    async def execute(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        return max(0, self._run(sql, parameters).rowcount)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    async def fetch_one(self, sql: str, parameters: Sequence[Value] = ()) -> Row | None:
        rows = self._run(sql, parameters)
        try:
            row: Row | None = rows.fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return row

    async def fetch_all(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        rows = self._run(sql, parameters)
        try:
            found: list[Row] = rows.fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return found

    def _run(self, sql: str, parameters: Sequence[Value]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, tuple(parameters))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> StoreError:
        self.failure = store_error(error)
        return self.failure


async def connect_writer(place: Place) -> aiosqlite.Connection:
    """Open the connection that writes; raises `sqlite3.Error`."""
    connection = await _connect(place)
    try:
        await hop(connection, _prepare_writer)
    except sqlite3.Error:
        await connection.close()
        raise
    return connection


async def connect_reader(place: Place) -> aiosqlite.Connection:
    """Open a connection that only reads; raises `sqlite3.Error`."""
    connection = await _connect(place)
    try:
        await hop(connection, _prepare_reader)
    except sqlite3.Error:
        await connection.close()
        raise
    return connection


async def hop(connection: aiosqlite.Connection, act: Callable[[sqlite3.Connection], _Result]) -> _Result:
    """Run an act in the connection's thread, after all that was asked of it before."""
    # aiosqlite's public calls are one hop a statement; its own way to hop is the only one for many.
    result: _Result = await connection._execute(act, connection._conn)  # type: ignore[no-untyped-call]  # aiosqlite types its outside only
    return result


def commit(connection: sqlite3.Connection, units: Sequence[Unit], sealing: Sealing | None) -> None:
    """Run units one after another and commit what they did; one that fails is undone alone.

    Raises:
        sqlite3.Error, FleetError: nothing was committed, or nobody can know (I/O errors).
    """
    tx = SqliteTransaction(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for unit in units:
            _run_alone(connection, tx, unit)
        if sealing is not None:
            drive(_sign, tx, sealing)
        connection.execute("COMMIT")
    except BaseException:
        # After a full disk or an I/O error, SQLite may have ended the transaction by itself.
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
    if sealing is not None:
        sealing.committed()


def snapshot(
    connection: sqlite3.Connection,
    work: Work[_Argument, _Result],
    argument: _Argument,
    within: timedelta | None = None,
) -> _Result:
    """Run a unit that only reads, on what was committed when it began.

    Raises:
        sqlite3.Error, StoreError: it could not be read, or the unit tried to write.
        BadInputError: it took longer than it might.
    """
    is_late = _deadline(within)
    connection.set_progress_handler(is_late, _STEPS)
    connection.execute("BEGIN")
    try:
        return drive(work, SqliteTransaction(connection), argument)
    except StoreError as error:
        if within is not None and is_late is not None and is_late():
            raise BadInputError(
                f"the query takes longer than {within.total_seconds():.0f} s",
                hint="ask for less of it at once",
            ) from error
        raise
    finally:
        connection.set_progress_handler(None, 0)
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _deadline(within: timedelta | None) -> Callable[[], bool] | None:
    if within is None:
        return None
    until = time.monotonic() + within.total_seconds()
    return lambda: time.monotonic() >= until


def _run_alone(connection: sqlite3.Connection, tx: SqliteTransaction, unit: Unit) -> None:
    connection.execute("SAVEPOINT unit")
    unit.run(tx)
    if not connection.in_transaction:
        raise tx.failure or StoreError("the transaction ended early", hint="report this as a defect")
    if not unit.keeps:
        connection.execute("ROLLBACK TO unit")
    connection.execute("RELEASE unit")


async def _sign(tx: Transaction, sealing: Sealing) -> None:
    await sealing.sign(tx)


async def _connect(place: Place) -> aiosqlite.Connection:
    # isolation_level None: the module begins no transactions of its own. The uri form opens an existing
    # file only, so that a wrong path makes no empty database.
    return await aiosqlite.connect(
        place.path if place.is_memory else f"file:{_escaped(place.path)}?mode=rw",
        uri=not place.is_memory,
        timeout=place.busy_timeout.total_seconds(),
        isolation_level=None,
        cached_statements=512,
    )


def _escaped(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _prepare_writer(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")


def _prepare_reader(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")
