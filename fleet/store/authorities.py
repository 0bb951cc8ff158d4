"""Roots and issuing CAs on record: where each stands, and how many leaves it has.

It decides nothing: what may follow on what is the table in `fleet.core.authority`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.core.authority import AuthorityRecord, AuthorityState, KeyKind, in_order
from fleet.model import Purpose
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "folder, issuer, realm, purpose, state, key_kind, room, added_at, changed_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavesQuery:
    """How many leaves of an issuing CA have not ended before `now`."""

    issuer: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedQuery:
    """What a CA has revoked that has not ended before `now`."""

    issuer: str
    now: datetime


async def insert_authority(tx: Transaction, record: AuthorityRecord) -> None:
    """Add a CA."""
    await tx.execute(f"INSERT INTO authorities ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _row(record))


async def insert_authorities(tx: Transaction, records: Sequence[AuthorityRecord]) -> None:
    """Add several CAs."""
    for record in records:
        await insert_authority(tx, record)


async def save_authority(tx: Transaction, record: AuthorityRecord) -> None:
    """Write what became of a CA; its folder tells which one it is."""
    await tx.execute(
        "UPDATE authorities SET issuer = ?, state = ?, room = ?, changed_at = ? WHERE folder = ?",
        (record.issuer, record.state.value, record.room, times.text(record.changed_at), record.folder),
    )


async def list_authorities(tx: Transaction, _argument: None = None) -> tuple[AuthorityRecord, ...]:
    """Return all CAs: by realm, roots first, then by purpose and number."""
    rows = await tx.fetch_all(f"SELECT {_COLUMNS} FROM authorities")
    return tuple(sorted((_record(row) for row in rows), key=in_order))


async def load_authority_record(tx: Transaction, issuer: str) -> AuthorityRecord | None:
    """Return a CA by its hex subject key identifier, or None."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM authorities WHERE issuer = ?", (issuer,))
    return None if row is None else _record(row)


async def state_of(tx: Transaction, issuer: str) -> tuple[AuthorityState, int | None] | None:
    """Return the state and the room of a CA, or None."""
    row = await tx.fetch_one("SELECT state, room FROM authorities WHERE issuer = ?", (issuer,))
    if row is None:
        return None
    return AuthorityState(columns.text(row[0])), columns.optional_number(row[1])


async def count_leaf(tx: Transaction, serial: str, *, issuer: str, not_after: datetime) -> None:
    """Note one more leaf of an issuing CA; what speaks for the CA itself is none."""
    await tx.execute(
        "INSERT INTO authority_leaves (issuer, ends_on, leaves)"
        " SELECT ?, ?, 1 FROM certificates WHERE serial = ? AND purpose NOT IN ('signer', 'authority')"
        " ON CONFLICT (issuer, ends_on) DO UPDATE SET leaves = authority_leaves.leaves + 1",
        (issuer, _day(not_after), serial),
    )


async def has_leaves(tx: Transaction, domain: str) -> bool:
    """Return whether any device of a domain has ever had a certificate."""
    row = await tx.fetch_one(
        "SELECT serial FROM certificates WHERE purpose = 'device' AND domain = ? AND device_id > ''"
        " AND fingerprint IS NOT NULL LIMIT 1",
        (domain,),
    )
    return row is not None


async def leaves_of(tx: Transaction, query: LeavesQuery) -> int:
    """Return how many leaves an issuing CA has that have not ended: its lists are no longer than that."""
    row = await tx.fetch_one(
        "SELECT COALESCE(SUM(leaves), 0) FROM authority_leaves WHERE issuer = ? AND ends_on >= ?",
        (query.issuer, _day(query.now)),
    )
    return 0 if row is None else columns.number(row[0])


async def revoked_by(tx: Transaction, query: RevokedQuery) -> tuple[str, ...]:
    """Return the serials that a CA has revoked, of certificates that have not ended."""
    rows = await tx.fetch_all(
        "SELECT serial FROM revocations WHERE issuer = ? AND (not_after IS NULL OR not_after >= ?)",
        (query.issuer, times.text(query.now)),
    )
    return tuple(columns.text(serial) for (serial,) in rows)


def _day(moment: datetime) -> str:
    return times.text(moment)[:10]


def _row(record: AuthorityRecord) -> Row:
    return (
        record.folder,
        record.issuer,
        record.realm,
        record.purpose.value,
        record.state.value,
        record.key.value,
        record.room,
        times.text(record.added_at),
        times.text(record.changed_at),
    )


def _record(row: Row) -> AuthorityRecord:
    return AuthorityRecord(
        folder=columns.text(row[0]),
        issuer=columns.text(row[1]),
        realm=columns.text(row[2]),
        purpose=Purpose(columns.text(row[3])),
        state=AuthorityState(columns.text(row[4])),
        key=KeyKind(columns.text(row[5])),
        room=columns.optional_number(row[6]),
        added_at=times.moment(row[7]),
        changed_at=times.moment(row[8]),
    )
