"""The audit trail: entries are appended in the unit of work that they tell of, and can be searched.

No function here changes or deletes an entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from fleet.core.audit import SignedHead, TreeHead, entry_hash
from fleet.core.merkle import Frontier
from fleet.errors import StoreError
from fleet.model import AuditEntry
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times

MAX_PAGE = 1000
"""Entries of one page at most."""

_LEVELS = 63
"""Of the tree: what a BIGINT can count."""

_COLUMNS = "number, at, action, actor, domain, device_id, serial, leaf_hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """An entry with its number, from 0, and the leaf hash that was stored with it."""

    number: int
    entry: AuditEntry
    leaf_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedEntry:
    """A row that is no entry any more."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedHead:
    """A row that is no signed head any more; `size` is what it says of itself."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries to find; what is empty does not restrict. `action` may end in `*`.

    No page is longer than `MAX_PAGE`.
    """

    domain: str = ""
    device_id: str = ""
    serial: str = ""
    actor: str = ""
    action: str = ""
    nobodys: bool = False
    """With a device: also what somebody unknown did who said to be it, and whose domain nobody knows."""
    after: int = -1
    """Only entries with a higher number."""
    limit: int = 100


async def append(tx: Transaction, entry: AuditEntry) -> int:
    """Append an entry, return its number. Belongs into the unit of work that did what it tells."""
    return await append_many(tx, (entry,))


async def append_many(tx: Transaction, entries: Sequence[AuditEntry]) -> int:
    """Append entries in their order, return the number of the first one."""
    before = frontier = await load_frontier(tx)
    first = before.size
    if not entries:
        return first
    rows: list[Row] = []
    details: list[Row] = []
    for number, entry in enumerate(entries, start=first):
        leaf = entry_hash(number, entry)
        frontier = frontier.append(leaf)
        rows.append(_row(number, entry, leaf))
        details += [(number, place, name, value) for place, (name, value) in enumerate(entry.details)]
    await tx.execute_many(f"INSERT INTO audit_entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    await tx.execute_many(
        "INSERT INTO audit_details (number, position, name, value) VALUES (?, ?, ?, ?)", details
    )
    await _save_frontier(tx, before, frontier)
    return first


async def load_frontier(tx: Transaction) -> Frontier:
    """Return what is kept of the tree, to append to it and to sign its root; raises `StoreError`."""
    rows = await tx.fetch_all("SELECT level, hash FROM audit_peaks ORDER BY level DESC")
    levels = [columns.number(level) for level, _ in rows]
    if any(not 0 <= level < _LEVELS for level in levels):
        raise StoreError("the audit trail has a damaged tree", hint="fleet audit verify")
    return Frontier(size=sum(1 << level for level in levels), peaks=tuple(_hash(peak) for _, peak in rows))


async def count_entries(tx: Transaction) -> int:
    """Return how many entries there are, by the highest number."""
    row = await tx.fetch_one("SELECT number FROM audit_entries ORDER BY number DESC LIMIT 1")
    return 0 if row is None else columns.number(row[0]) + 1


async def newest_head(tx: Transaction, log: str) -> SignedHead | None:
    """Return the head over most entries; `log` is the name of the fleet, which the signature covers."""
    row = await tx.fetch_one("SELECT size, root, at, signature FROM audit_heads ORDER BY size DESC LIMIT 1")
    return None if row is None else _head(row, log)


async def has_head(tx: Transaction, size: int) -> bool:
    """Say whether there is a head over so many entries, be it damaged."""
    return await tx.fetch_one("SELECT 1 FROM audit_heads WHERE size = ?", (size,)) is not None


async def root_at(tx: Transaction, size: int) -> bytes | None:
    """Return the root under the head over so many entries, or None where there is no such head."""
    row = await tx.fetch_one("SELECT root FROM audit_heads WHERE size = ?", (size,))
    return None if row is None else _hash(row[0])


async def heads_between(
    tx: Transaction, log: str, first: int, last: int
) -> tuple[SignedHead | DamagedHead, ...]:
    """Return the heads over `first` to `last` entries, both included, smallest first."""
    rows = await tx.fetch_all(
        "SELECT size, root, at, signature FROM audit_heads WHERE size BETWEEN ? AND ? ORDER BY size",
        (first, last),
    )
    return tuple(_head_or_damage(row, log) for row in rows)


async def count_heads(tx: Transaction) -> int:
    """Return how many rows of heads there are, whatever stands in them."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM audit_heads")
    return 0 if row is None else columns.number(row[0])


async def save_head(tx: Transaction, signed: SignedHead) -> None:
    """Add a signed head."""
    head = signed.head
    await tx.execute(
        "INSERT INTO audit_heads (size, root, at, signature) VALUES (?, ?, ?, ?)",
        (head.size, head.root.hex(), times.text(head.at), signed.signature),
    )


async def leaf_hashes(tx: Transaction, first: int) -> tuple[bytes, ...]:
    """Return the leaf hashes of entry `first` and of those that follow it, archived ones too.

    Raises:
        StoreError: an entry is missing among them.
    """
    rows = await tx.fetch_all(
        "SELECT number, leaf_hash FROM audit_archived WHERE number >= ?"
        " UNION ALL SELECT number, leaf_hash FROM audit_entries WHERE number >= ? ORDER BY number LIMIT ?",
        (first, first, MAX_PAGE),
    )
    if any(columns.number(row[0]) != number for number, row in enumerate(rows, start=first)):
        raise StoreError("entries of the audit trail are missing", hint="fleet audit verify")
    return tuple(_hash(leaf) for _, leaf in rows)


async def archived_hashes(tx: Transaction, after: int) -> tuple[tuple[int, bytes | None], ...]:
    """Return number and leaf hash of the archived entries that follow `after`; None for a damaged hash."""
    rows = await tx.fetch_all(
        "SELECT number, leaf_hash FROM audit_archived WHERE number > ? ORDER BY number LIMIT ?",
        (after, MAX_PAGE),
    )
    return tuple((columns.number(number), _hash_or_damage(leaf)) for number, leaf in rows)


async def page(tx: Transaction, after: int) -> tuple[StoredEntry, ...]:
    """Return the entries that follow number `after`, as they stand; start with -1."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM audit_entries WHERE number > ? ORDER BY number LIMIT ?",
        (after, MAX_PAGE),
    )
    return await _with_details(tx, rows)


async def page_to_check(tx: Transaction, after: int) -> tuple[StoredEntry | DamagedEntry, ...]:
    """Return what `page` does, with rows that cannot be read told apart from those that can."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM audit_entries WHERE number > ? ORDER BY number LIMIT ?", (after, MAX_PAGE)
    )
    try:
        return await _with_details(tx, rows)
    except StoreError:
        return tuple([await _checked(tx, row, after + 1) for row in rows])


async def details_without_entry(tx: Transaction, _argument: None) -> tuple[int, ...]:
    """Return the numbers of entries of which there are details only."""
    rows = await tx.fetch_all(
        "SELECT DISTINCT number FROM audit_details d"
        " WHERE NOT EXISTS (SELECT 1 FROM audit_entries e WHERE e.number = d.number) ORDER BY number"
    )
    return tuple(columns.number(number) for (number,) in rows)


async def search(tx: Transaction, query: AuditQuery) -> tuple[StoredEntry, ...]:
    """Return the first entries that a query asks for, oldest first."""
    return await _with_details(tx, await _found(tx, query, "ASC"))


async def search_on(tx: Transaction, query: AuditQuery) -> tuple[tuple[StoredEntry, ...], int]:
    """Return as `search`, and the number of the last entry that was looked at: where to go on."""
    found = await search(tx, query)
    if len(found) == min(query.limit, MAX_PAGE):
        return found, found[-1].number
    return found, max(query.after, await count_entries(tx) - 1)


async def search_newest(tx: Transaction, query: AuditQuery) -> tuple[StoredEntry, ...]:
    """Return the last entries that a query asks for, oldest of them first."""
    rows = await _found(tx, query, "DESC")
    return await _with_details(tx, rows[::-1])


async def _found(tx: Transaction, query: AuditQuery, order: str) -> list[Row]:
    conditions, values = _conditions(query)
    return await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM audit_entries WHERE {' AND '.join(conditions)}"
        f" ORDER BY number {order} LIMIT ?",
        (*values, min(query.limit, MAX_PAGE)),
    )


def _conditions(query: AuditQuery) -> tuple[list[str], list[Value]]:
    conditions, values = ["number > ?"], list[Value]([max(query.after, -1)])
    if query.nobodys:
        conditions.append("domain IN (?, '')")
        values.append(query.domain)
    wanted = (
        ("domain", "" if query.nobodys else query.domain),
        ("device_id", query.device_id),
        ("serial", query.serial),
        ("actor", query.actor),
    )
    for column, value in wanted:
        if value:
            conditions.append(f"{column} = ?")
            values.append(value)
    if query.serial:
        conditions.append("serial <> ''")  # said once more, so that the partial index is seen to fit
    if query.action.endswith("*"):
        conditions.append("substr(action, 1, ?) = ?")
        values += [len(query.action) - 1, query.action[:-1]]
    elif query.action:
        conditions.append("action = ?")
        values.append(query.action)
    return conditions, values


async def _save_frontier(tx: Transaction, before: Frontier, after: Frontier) -> None:
    """Write the peaks that are not the same, about two for each entry."""
    old, new = _by_level(before), _by_level(after)
    await tx.execute_many(
        "DELETE FROM audit_peaks WHERE level = ?", [(level,) for level in old if level not in new]
    )
    await tx.execute_many(
        "INSERT INTO audit_peaks (level, hash) VALUES (?, ?)"
        " ON CONFLICT (level) DO UPDATE SET hash = excluded.hash",
        [(level, peak) for level, peak in new.items() if old.get(level) != peak],
    )


def _by_level(frontier: Frontier) -> dict[int, str]:
    levels = [level for level in range(frontier.size.bit_length() - 1, -1, -1) if frontier.size >> level & 1]
    return {level: peak.hex() for level, peak in zip(levels, frontier.peaks, strict=True)}


async def _with_details(tx: Transaction, rows: Sequence[Row]) -> tuple[StoredEntry, ...]:
    if not rows:
        return ()
    details = await _details(tx, [columns.number(row[0]) for row in rows])
    return tuple(_entry(row, details.get(columns.number(row[0]), ())) for row in rows)


async def _details(tx: Transaction, numbers: Sequence[int]) -> dict[int, tuple[tuple[str, str], ...]]:
    """Return the details of entries. SQLite takes 32,766 parameters, PostgreSQL 65,535."""
    marks = ", ".join("?" * len(numbers))
    rows = await tx.fetch_all(
        f"SELECT number, name, value FROM audit_details WHERE number IN ({marks}) ORDER BY number, position",
        numbers,
    )
    return {
        columns.number(number): tuple((columns.text(row[1]), columns.text(row[2])) for row in group)
        for number, group in groupby(rows, key=lambda row: row[0])
    }


async def _checked(tx: Transaction, row: Row, expected: int) -> StoredEntry | DamagedEntry:
    try:
        (stored,) = await _with_details(tx, (row,))
    except StoreError:
        return DamagedEntry(number=row[0] if isinstance(row[0], int) else expected)
    return stored


def _row(number: int, entry: AuditEntry, leaf: bytes) -> Row:
    at = times.text(entry.at)
    return (number, at, entry.action, entry.actor, entry.domain, entry.device_id, entry.serial, leaf.hex())


def _entry(row: Row, details: tuple[tuple[str, str], ...]) -> StoredEntry:
    number, at, action, actor, domain, device_id, serial, leaf = row
    entry = AuditEntry(
        at=times.moment(at),
        action=columns.text(action),
        actor=columns.text(actor),
        domain=columns.text(domain),
        device_id=columns.text(device_id),
        serial=columns.text(serial),
        details=details,
    )
    return StoredEntry(number=columns.number(number), entry=entry, leaf_hash=_hash(leaf))


def _hash(value: str | float | bytes | None) -> bytes:
    try:
        return bytes.fromhex(columns.text(value))
    except ValueError as error:
        raise StoreError("the audit trail holds a hash that is none", hint="fleet audit verify") from error


def _hash_or_damage(value: Value) -> bytes | None:
    try:
        return _hash(value)
    except StoreError:
        return None


def _head(row: Row, log: str) -> SignedHead:
    size, root, at, signature = row
    head = TreeHead(log=log, size=columns.number(size), root=_hash(root), at=times.moment(at))
    return SignedHead(head=head, signature=columns.octets(signature))


def _head_or_damage(row: Row, log: str) -> SignedHead | DamagedHead:
    try:
        return _head(row, log)
    except StoreError:
        return DamagedHead(size=columns.number(row[0]))
