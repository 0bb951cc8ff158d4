"""What a station made, in a SQLite file of its own: it survives power cuts and outlives the server's absence.

It keeps and returns; it decides nothing. Each method is one transaction, on the disk when it returns.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

import aiosqlite

from fleet.errors import RefusedError, StorageFullError, StoreError
from fleet.station.life import LIFE, UnitEvent, UnitState
from fleet.station.package import Package
from fleet.station.units import Generation, Unit, csr_hash_of

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE units (
    hardware_id TEXT PRIMARY KEY,
    device_id   TEXT UNIQUE,
    model       TEXT NOT NULL,
    doubt       TEXT,
    found_at    TEXT NOT NULL
);
CREATE TABLE generations (
    hardware_id   TEXT NOT NULL REFERENCES units (hardware_id),
    number        INTEGER NOT NULL,
    state         TEXT NOT NULL,
    csr           BLOB NOT NULL,
    csr_hash      TEXT NOT NULL,
    serial        TEXT,
    fingerprint   TEXT,
    chain         BLOB,
    anchors       BLOB,
    configuration BLOB,
    changed_at    TEXT NOT NULL,
    PRIMARY KEY (hardware_id, number),
    UNIQUE (hardware_id, csr_hash)
);
CREATE INDEX generations_by_state ON generations (state);
CREATE TABLE numbers (
    prefix TEXT PRIMARY KEY,
    last   INTEGER NOT NULL
);
"""


class Ledger:
    """The ledger of one station. Lanes may share it; transactions go one after another."""

    def __init__(self, connection: aiosqlite.Connection, clock: Callable[[], datetime]) -> None:
        self._connection = connection
        self._clock = clock
        self._turn = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path, *, clock: Callable[[], datetime]) -> AsyncIterator[Self]:
        """Open the ledger, or make it with mode 0600.

        Raises:
            StoreError: the file cannot be opened, or is of another version of this program.
        """
        with _told(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        async with aiosqlite.connect(path, isolation_level=None) as connection:
            with _told(path):
                await _prepare(connection, path)
            yield cls(connection, clock)

    async def find(self, hardware_id: str) -> Unit | None:
        """Return a unit, or None where it was never here."""
        async with self._transaction():
            return await self._load(hardware_id)

    async def owner_of(self, device_id: str) -> str | None:
        """Return the hardware id that a device id is reserved for."""
        async with self._transaction():
            row = await self._one("SELECT hardware_id FROM units WHERE device_id = ?", device_id)
        return None if row is None else str(row[0])

    async def next_number(self, prefix: str) -> int:
        """Return the next number of a prefix, from 1; it is never given out again."""
        async with self._transaction():
            row = await self._one(
                "INSERT INTO numbers (prefix, last) VALUES (?, 1)"
                " ON CONFLICT (prefix) DO UPDATE SET last = last + 1 RETURNING last",
                prefix,
            )
        return int(str(row[0])) if row else 1

    async def reserve(self, hardware_id: str, *, device_id: str, model: str) -> None:
        """Reserve a device id for a unit.

        Raises:
            RefusedError: the id is another unit's.
        """
        async with self._transaction():
            try:
                await self._run(
                    "INSERT INTO units (hardware_id, device_id, model, found_at) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (hardware_id) DO UPDATE"
                    " SET device_id = coalesce(device_id, excluded.device_id), model = excluded.model",
                    *(hardware_id, device_id, model, self._now()),
                )
            except sqlite3.IntegrityError as error:
                raise RefusedError(f"device id {device_id} is reserved for another unit") from error

    async def add_request(self, hardware_id: str, csr: bytes) -> None:
        """Keep a unit's CSR (DER) as its next generation; one that is there already stays."""
        async with self._transaction():
            await self._run(
                "INSERT INTO generations (hardware_id, number, state, csr, csr_hash, changed_at)"
                " SELECT ?, coalesce(max(number), 0) + 1, ?, ?, ?, ? FROM generations WHERE hardware_id = ?"
                " ON CONFLICT (hardware_id, csr_hash) DO NOTHING",
                *(hardware_id, UnitState.RESERVED, csr, csr_hash_of(csr), self._now(), hardware_id),
            )

    async def add_package(self, hardware_id: str, *, number: int, package: Package) -> None:
        """Keep what was issued for a generation, and revoke the generations before it, in one commit."""
        async with self._transaction():
            unit = await self._load(hardware_id)
            for one in unit.generations if unit else ():
                if one.number < number:
                    await self._move(hardware_id, one, UnitEvent.REPLACED)
                elif one.number == number:
                    await self._move(hardware_id, one, UnitEvent.ISSUED)
            await self._run(
                "UPDATE generations"
                " SET serial = ?, fingerprint = ?, chain = ?, anchors = ?, configuration = ?"
                " WHERE hardware_id = ? AND number = ?",
                *(package.serial, package.fingerprint.hex(), package.chain, package.anchors),
                *(package.configuration, hardware_id, number),
            )

    async def record(self, hardware_id: str, *, number: int, event: UnitEvent) -> None:
        """Move a generation on.

        Raises:
            RefusedError: its life has no such step; nothing changed.
        """
        async with self._transaction():
            unit = await self._load(hardware_id)
            for one in unit.generations if unit else ():
                if one.number == number:
                    await self._move(hardware_id, one, event)

    async def quarantine(self, hardware_id: str, reason: str) -> None:
        """Doubt a unit until it is released; the first reason stays."""
        async with self._transaction():
            await self._run(
                "INSERT INTO units (hardware_id, model, doubt, found_at) VALUES (?, '', ?, ?)"
                " ON CONFLICT (hardware_id) DO UPDATE SET doubt = coalesce(doubt, excluded.doubt)",
                *(hardware_id, reason, self._now()),
            )

    async def release(self, hardware_id: str) -> None:
        """End the quarantine of a unit: a person looked at it."""
        async with self._transaction():
            await self._run("UPDATE units SET doubt = NULL WHERE hardware_id = ?", hardware_id)

    async def unsynced(self) -> tuple[tuple[str, int, str], ...]:
        """Return (hardware id, generation, serial) of all that were committed and not told to the server."""
        async with self._transaction():
            cursor = await self._connection.execute(
                "SELECT hardware_id, number, serial FROM generations WHERE state IN (?, ?)"
                " ORDER BY changed_at, hardware_id LIMIT 1000",
                (UnitState.COMMITTED, UnitState.LABELLED),
            )
            return tuple((str(row[0]), int(row[1]), str(row[2])) for row in await cursor.fetchall())

    async def units(self) -> tuple[Unit, ...]:
        """Return all units, by hardware id."""
        async with self._transaction():
            cursor = await self._connection.execute("SELECT hardware_id FROM units ORDER BY hardware_id")
            found = [await self._load(str(row[0])) for row in await cursor.fetchall()]
        return tuple(unit for unit in found if unit)

    def _now(self) -> str:
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        async with self._turn:
            with _told(None):
                await self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    await self._connection.execute("ROLLBACK")
                    raise
                await self._connection.execute("COMMIT")

    async def _run(self, sql: str, *parameters: object) -> None:
        await self._connection.execute(sql, parameters)

    async def _one(self, sql: str, *parameters: object) -> Sequence[object] | None:
        cursor = await self._connection.execute(sql, parameters)
        return await cursor.fetchone()

    async def _load(self, hardware_id: str) -> Unit | None:
        row = await self._one("SELECT device_id, model, doubt FROM units WHERE hardware_id = ?", hardware_id)
        if row is None:
            return None
        cursor = await self._connection.execute(
            "SELECT number, state, csr, csr_hash, serial, chain, anchors, configuration"
            " FROM generations WHERE hardware_id = ? ORDER BY number",
            (hardware_id,),
        )
        device_id, model, doubt = row
        return Unit(
            hardware_id=hardware_id,
            device_id=None if device_id is None else str(device_id),
            model=str(model),
            doubt=None if doubt is None else str(doubt),
            generations=tuple(_generation(one) for one in await cursor.fetchall()),
        )

    async def _move(self, hardware_id: str, generation: Generation, event: UnitEvent) -> None:
        after = LIFE.get((generation.state, event))
        if after is None:
            raise RefusedError(f"unit {hardware_id} is {generation.state} and cannot be {event}")
        await self._run(
            "UPDATE generations SET state = ?, changed_at = ? WHERE hardware_id = ? AND number = ?",
            *(after, self._now(), hardware_id, generation.number),
        )


def _generation(row: Sequence[object]) -> Generation:
    match row:
        case (
            int(number),
            str(state),
            bytes(csr),
            str(csr_hash),
            str(serial),
            bytes(chain),
            bytes(anchors),
            bytes(configuration),
        ):
            package = Package(serial=serial, chain=chain, anchors=anchors, configuration=configuration)
            return Generation(
                number=number, state=UnitState(state), csr=csr, csr_hash=csr_hash, package=package
            )
        case (int(number), str(state), bytes(csr), str(csr_hash), None, None, None, None):
            return Generation(number=number, state=UnitState(state), csr=csr, csr_hash=csr_hash)
        case _:
            raise StoreError("the station's ledger holds a row that is not whole")


async def _prepare(connection: aiosqlite.Connection, path: Path) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 5000"):
        await connection.execute(f"PRAGMA {pragma}")
    await connection.execute("BEGIN IMMEDIATE")
    cursor = await connection.execute("PRAGMA user_version")
    row = await cursor.fetchone()
    version = int(row[0]) if row else 0
    if version == 0:
        for statement in _SCHEMA.split(";"):
            await connection.execute(statement)
        await connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    await connection.execute("COMMIT")
    if version not in (0, _SCHEMA_VERSION):
        raise StoreError(f"the ledger {path} is of version {version}, this program writes {_SCHEMA_VERSION}")


@contextmanager
def _told(path: Path | None) -> Iterator[None]:
    """Turn what SQLite and the system say into this project's errors."""
    where = f" {path}" if path else ""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise StorageFullError("the disk of the station's ledger is full") from error
        raise StoreError(f"the station's ledger{where} cannot be used: {error}") from error
    except sqlite3.Error as error:
        raise StoreError(f"the station's ledger{where} cannot be used: {error}") from error
    except OSError as error:
        raise StoreError(f"the station's ledger{where} cannot be opened: {error.strerror}") from error
