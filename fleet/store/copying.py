"""A copy of the whole database in one file, of one moment although the server goes on writing.

Works beside the process that holds the database: a reader in WAL mode neither waits for the writer nor
stops it.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fleet.core.authority import AuthorityRecord
from fleet.core.merkle import Frontier
from fleet.errors import StoreError
from fleet.ports import Transaction
from fleet.store import audit, columns
from fleet.store.authorities import list_authorities
from fleet.store.connections import snapshot
from fleet.store.faults import os_store_error, store_error

_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a database holds."""

    rows: Mapping[str, int]
    """Of each table."""
    trail: Frontier
    authorities: tuple[AuthorityRecord, ...]


def copy_database(source: Path, target: Path) -> Inventory:
    """Copy a database to a new file (0600), as it stood at one moment; return what is in it.

    Raises:
        StoreError: it cannot be read or is damaged, or the copy cannot be written.
        StorageFullError: the disk is full.
    """
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _MODE))
    except OSError as error:
        raise os_store_error(error, target) from error
    with _reading(source) as reader, _telling(), closing(sqlite3.connect(target)) as writer:
        # In one step: one read transaction, and no other page is written twice.
        reader.backup(writer)
        writer.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        (found,) = writer.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreError(f"the database is damaged: {found}", hint="fleet doctor")
    return take_inventory(target)


def take_inventory(database: Path) -> Inventory:
    """Return what a database holds. Raises `StoreError`."""
    with _reading(database) as reader, _telling():
        return snapshot(reader, _inventory, None)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with _telling():
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    with closing(connection):
        yield connection


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error) from error


async def _inventory(tx: Transaction, _argument: None) -> Inventory:
    tables = await tx.fetch_all("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    rows: dict[str, int] = {}
    for (name,) in tables:
        table = columns.text(name)
        found = await tx.fetch_one(f'SELECT COUNT(*) FROM "{table}"')
        rows[table] = 0 if found is None else columns.number(found[0])
    return Inventory(rows=rows, trail=await audit.load_frontier(tx), authorities=await list_authorities(tx))
