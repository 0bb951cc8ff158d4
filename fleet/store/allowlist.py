"""What the brokers admit, as the view `allowlist` tells it, and the gap-free changes that commits made.

The view is the one place that says who is on the list; this module only remembers differences.
"""

from collections.abc import Sequence
from itertools import groupby

from device_agent.wire.identity import Identity
from fleet.model import Allowlist, AllowlistChange, AllowlistEntry, Purpose
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times
from fleet.store.counters import count_up, value_of

_COUNTER = "allowlist"
_COLUMNS = "issuer, serial, fingerprint, name, purpose, not_after, access_class"
# An adopted leaf is on record under a name of ours; brokers see the serial number that it has.
_ADMITTED = (
    "SELECT l.issuer, COALESCE(a.serial, l.serial), l.fingerprint, l.name, l.purpose, l.not_after,"
    " l.access_class"
    " FROM allowlist l LEFT JOIN adopted_leaves a ON a.record = l.serial"
)
_ADD, _REMOVE = "add", "remove"


async def snapshot(tx: Transaction, _argument: None) -> Allowlist:
    """Return all that is admitted, and the sequence number of the last change to it."""
    rows = await tx.fetch_all(f"{_ADMITTED} ORDER BY l.serial")
    entries = tuple(_entry(row) for row in rows)
    return Allowlist(sequence=await value_of(tx, _COUNTER), entries=entries)


async def sequence(tx: Transaction, _argument: None) -> int:
    """Return the sequence number of the last change, 0 before the first one."""
    return await value_of(tx, _COUNTER)


async def changes_after(tx: Transaction, after: int) -> tuple[AllowlistChange, ...]:
    """Return all changes that follow a sequence number."""
    rows = await tx.fetch_all(
        f"SELECT sequence, change, {_COLUMNS} FROM allowlist_changes"
        " WHERE sequence > ? ORDER BY sequence, serial",
        (after,),
    )
    grouped = groupby(rows, key=lambda row: columns.number(row[0]))
    return tuple(_change(number, list(members)) for number, members in grouped)


async def of_device(tx: Transaction, identity: Identity) -> tuple[AllowlistEntry, ...]:
    """Return what is admitted of a device."""
    return await _where(tx, "l.purpose = 'device' AND l.domain = ? AND l.device_id = ?", _parts(identity))


async def of_serial(tx: Transaction, serial: str) -> tuple[AllowlistEntry, ...]:
    """Return the entry of a certificate, if it is admitted."""
    return await _where(tx, "l.serial = ?", (serial,))


async def of_batch(tx: Transaction, domain: str, batch: str) -> tuple[AllowlistEntry, ...]:
    """Return what is admitted of a batch's claim certificates."""
    return await _where(tx, "l.purpose = 'claim' AND l.domain = ? AND l.batch = ?", (domain, batch))


async def page_of_devices(tx: Transaction, after: str, *, limit: int) -> tuple[AllowlistEntry, ...]:
    """Return a page of what is admitted of devices, by serial."""
    rows = await tx.fetch_all(
        f"{_ADMITTED} WHERE l.purpose = 'device' AND l.serial > ? ORDER BY l.serial LIMIT ?", (after, limit)
    )
    return tuple(_entry(row) for row in rows)


async def note(
    tx: Transaction, before: Sequence[AllowlistEntry], *, after: Sequence[AllowlistEntry]
) -> int | None:
    """Record a difference under the next sequence number, and return that; None where there is none."""
    added = [entry for entry in after if entry not in before]
    removed = [entry for entry in before if entry not in after]
    if not added and not removed:
        return None
    number = await count_up(tx, _COUNTER)
    rows = [_row(number, _ADD, entry) for entry in added] + [
        _row(number, _REMOVE, entry) for entry in removed
    ]
    await tx.execute_many(
        f"INSERT INTO allowlist_changes (sequence, change, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    return number


async def note_all(tx: Transaction) -> int:
    """Return the next sequence number for a change of everything: brokers get the whole list."""
    return await count_up(tx, _COUNTER)


async def prune_changes(tx: Transaction, through: int) -> int:
    """Forget changes up to a sequence number; a broker that lags behind it gets a snapshot."""
    return await tx.execute("DELETE FROM allowlist_changes WHERE sequence <= ?", (through,))


async def _where(tx: Transaction, condition: str, parameters: Sequence[str]) -> tuple[AllowlistEntry, ...]:
    sql = f"{_ADMITTED} WHERE {condition} ORDER BY l.serial"
    return tuple(_entry(row) for row in await tx.fetch_all(sql, parameters))


def _parts(identity: Identity) -> tuple[str, str]:
    return (identity.domain, identity.device_id)


def _change(number: int, rows: Sequence[Row]) -> AllowlistChange:
    return AllowlistChange(
        sequence=number,
        added=tuple(_entry(row[2:]) for row in rows if row[1] == _ADD),
        removed=tuple(_entry(row[2:]) for row in rows if row[1] == _REMOVE),
    )


def _entry(row: Sequence[Value]) -> AllowlistEntry:
    issuer, serial, fingerprint, name, purpose, not_after, access = row
    return AllowlistEntry(
        issuer=columns.text(issuer),
        serial=columns.text(serial),
        fingerprint=columns.text(fingerprint),
        name=columns.text(name),
        purpose=Purpose(columns.text(purpose)),
        not_after=times.moment(not_after),
        access=columns.number(access),
    )


def _row(number: int, change: str, entry: AllowlistEntry) -> Row:
    return (
        number,
        change,
        entry.issuer,
        entry.serial,
        entry.fingerprint,
        entry.name,
        entry.purpose.value,
        times.text(entry.not_after),
        entry.access,
    )
