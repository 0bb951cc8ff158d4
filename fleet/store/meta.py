"""Single facts about the fleet, such as its name."""

from fleet.ports import Transaction
from fleet.store import columns


async def get_meta(tx: Transaction, name: str) -> str | None:
    """Return a fact by its name, or None."""
    row = await tx.fetch_one("SELECT value FROM meta WHERE name = ?", (name,))
    return None if row is None else columns.text(row[0])


async def set_meta(tx: Transaction, name: str, value: str) -> None:
    """Set a fact."""
    await tx.execute(
        "INSERT INTO meta (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )
