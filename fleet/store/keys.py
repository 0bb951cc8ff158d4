"""Keys that may never be certified, beside those of revoked certificates, which the certificates tell."""

from datetime import datetime

from fleet.ports import Transaction
from fleet.store import columns, times


async def block_key(tx: Transaction, key_hash: str, *, reason: str, at: datetime) -> None:
    """Block a key for good; the first reason stays."""
    await tx.execute(
        "INSERT INTO blocked_keys (key_hash, reason, blocked_at) VALUES (?, ?, ?)"
        " ON CONFLICT (key_hash) DO NOTHING",
        (key_hash, reason, times.text(at)),
    )


async def blocked_because(tx: Transaction, key_hash: str) -> str | None:
    """Return why a key is blocked, or None."""
    row = await tx.fetch_one("SELECT reason FROM blocked_keys WHERE key_hash = ?", (key_hash,))
    return None if row is None else columns.text(row[0])
