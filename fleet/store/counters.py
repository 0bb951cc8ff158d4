"""Numbers that only grow, one more with each call; gaps among what was committed are asked for."""

from fleet.ports import Transaction
from fleet.store import columns


async def count_up(tx: Transaction, name: str, *, floor: int = 0) -> int:
    """Take the next value of a counter, from 1, and above `floor`."""
    await tx.execute(
        "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value ="
        " CASE WHEN counters.value < excluded.value THEN excluded.value ELSE counters.value + 1 END",
        (name, floor + 1),
    )
    return await value_of(tx, name)


async def value_of(tx: Transaction, name: str) -> int:
    """Return the last value that was taken, 0 before the first."""
    row = await tx.fetch_one("SELECT value FROM counters WHERE name = ?", (name,))
    return 0 if row is None else columns.number(row[0])
