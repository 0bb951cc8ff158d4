"""Numbers that only grow, one more with each call, without gaps among what was committed."""

from fleet.ports import Transaction
from fleet.store import columns


async def count_up(tx: Transaction, name: str) -> int:
    """Take the next value of a counter, from 1."""
    await tx.execute(
        "INSERT INTO counters (name, value) VALUES (?, 1)"
        " ON CONFLICT (name) DO UPDATE SET value = counters.value + 1",
        (name,),
    )
    return await value_of(tx, name)


async def value_of(tx: Transaction, name: str) -> int:
    """Return the last value that was taken, 0 before the first."""
    row = await tx.fetch_one("SELECT value FROM counters WHERE name = ?", (name,))
    return 0 if row is None else columns.number(row[0])
