"""Keys that may never be certified: those that somebody blocked, and those of compromised certificates."""

from dataclasses import dataclass
from datetime import datetime

from fleet.ports import Row, Transaction
from fleet.store import columns, times

SERVER = "server"
"""Who blocked a key, where that followed from a revocation."""
COMPROMISED = "its certificate was revoked as compromised"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedKey:
    """A key by its hash, and why it is blocked."""

    key_hash: str
    """Hex SHA-256 of the DER SubjectPublicKeyInfo."""
    reason: str
    blocked_at: datetime
    blocked_by: str
    """As the audit trail names him."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyQuery:
    """A page of blocked keys, by hash."""

    after: str = ""
    limit: int = 100


async def block_key(tx: Transaction, key_hash: str, *, reason: str, at: datetime, by: str = SERVER) -> bool:
    """Block a key for good; return whether it was not blocked before: the first reason stays."""
    new = await tx.execute(
        "INSERT INTO blocked_keys (key_hash, reason, blocked_at, blocked_by) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (key_hash) DO NOTHING",
        (key_hash, reason, times.text(at), by),
    )
    return new > 0


async def block_compromised(tx: Transaction, serial: str, *, at: datetime) -> None:
    """Block the key of a certificate that was revoked as compromised."""
    row = await tx.fetch_one(
        "SELECT key_hash FROM certificates WHERE serial = ? AND key_hash <> ''", (serial,)
    )
    if row is not None:
        await block_key(tx, columns.text(row[0]), reason=COMPROMISED, at=at)


async def blocked_because(tx: Transaction, key_hash: str) -> str | None:
    """Return why a key is blocked, or None."""
    row = await tx.fetch_one("SELECT reason FROM blocked_keys WHERE key_hash = ?", (key_hash,))
    return None if row is None else columns.text(row[0])


async def list_blocked(tx: Transaction, query: KeyQuery) -> tuple[BlockedKey, ...]:
    """Return a page of blocked keys."""
    rows = await tx.fetch_all(
        "SELECT key_hash, reason, blocked_at, blocked_by FROM blocked_keys"
        " WHERE key_hash > ? ORDER BY key_hash LIMIT ?",
        (query.after, query.limit),
    )
    return tuple(_blocked(row) for row in rows)


def _blocked(row: Row) -> BlockedKey:
    return BlockedKey(
        key_hash=columns.text(row[0]),
        reason=columns.text(row[1]),
        blocked_at=times.moment(row[2]),
        blocked_by=columns.text(row[3]),
    )
