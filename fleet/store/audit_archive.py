"""Entries of the audit trail that were written to files: their hashes stay here, their words do not.

An entry leaves only for a file that is on record; what may be missing is what the trail itself says has left.
"""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.audit import entry_hash
from fleet.errors import StoreError
from fleet.ports import Row, Transaction
from fleet.store import audit, columns, times


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFile:
    """A file with the entries `first` to `last`; `digest` is its SHA-256."""

    first: int
    last: int
    file: str
    digest: bytes
    archived_at: datetime


async def save_file(tx: Transaction, made: ArchiveFile) -> None:
    """Put a file on record; its entries may leave from now on."""
    await tx.execute(
        "INSERT INTO audit_archives (first, last, file, digest, archived_at) VALUES (?, ?, ?, ?, ?)",
        (made.first, made.last, made.file, made.digest.hex(), times.text(made.archived_at)),
    )


async def files(tx: Transaction, _argument: None = None) -> tuple[ArchiveFile, ...]:
    """Return all files, in the order of what they hold."""
    rows = await tx.fetch_all(
        "SELECT first, last, file, digest, archived_at FROM audit_archives ORDER BY first"
    )
    return tuple(_file(row) for row in rows)


async def file_of(tx: Transaction, number: int) -> ArchiveFile | None:
    """Return the file that an entry was written to, or None where it was not."""
    row = await tx.fetch_one(
        "SELECT first, last, file, digest, archived_at FROM audit_archives"
        " WHERE first <= ? AND last >= ? ORDER BY first LIMIT 1",
        (number, number),
    )
    return None if row is None else _file(row)


async def end(tx: Transaction, _argument: None = None) -> int:
    """Return the number of the first entry that no file on record holds."""
    row = await tx.fetch_one("SELECT last FROM audit_archives ORDER BY first DESC LIMIT 1")
    return 0 if row is None else columns.number(row[0]) + 1


async def first_since(tx: Transaction, moment: datetime) -> int:
    """Return the number of the first entry that is not older than `moment`; of the next one, if all are."""
    row = await tx.fetch_one(
        "SELECT number FROM audit_entries WHERE at >= ? ORDER BY number LIMIT 1", (times.text(moment),)
    )
    return await audit.count_entries(tx) if row is None else columns.number(row[0])


async def let_go(tx: Transaction, last: int) -> int:
    """Keep of the oldest entries, up to number `last`, the hashes alone; return how many they were.

    A page at most: call it again until it returns 0.

    Raises:
        StoreError: an entry is not what was recorded, or is held by no file on record.
    """
    if last >= await end(tx):
        raise StoreError(f"entry {last} is in no archive", hint="fleet audit archive")
    going = [entry for entry in await audit.page(tx, -1) if entry.number <= last]
    rows: list[Row] = []
    for stored in going:
        if entry_hash(stored.number, stored.entry) != stored.leaf_hash:
            raise StoreError(f"entry {stored.number} is not what was recorded", hint="fleet audit verify")
        rows.append((stored.number, stored.leaf_hash.hex()))
    await tx.execute_many("INSERT INTO audit_archived (number, leaf_hash) VALUES (?, ?)", rows)
    for table in ("audit_details", "audit_entries"):
        await tx.execute_many(f"DELETE FROM {table} WHERE number = ?", [row[:1] for row in rows])
    return len(rows)


def _file(row: Row) -> ArchiveFile:
    first, last, file, digest, at = row
    return ArchiveFile(
        first=columns.number(first),
        last=columns.number(last),
        file=columns.text(file),
        digest=bytes.fromhex(columns.text(digest)),
        archived_at=times.moment(at),
    )
