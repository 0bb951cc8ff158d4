"""Up to where logs were read, and which batches of lines were taken: nothing of a log counts twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.core.history import Contact
from fleet.ports import Transaction
from fleet.store import columns, contacts, times

BATCHES_KEPT = timedelta(days=7)
"""A batch that is handed in again later than that counts anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """A place in a log; `beginning` is the SHA-256 of the file's first line, empty before the first look."""

    beginning: str = ""
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLines:
    """What was found in a log of this machine, and up to where it has been read."""

    log: str
    place: LogPlace
    found: Sequence[Contact]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What was found in a batch of lines from elsewhere."""

    shipper: str
    batch: str
    at: datetime
    found: Sequence[Contact]


async def place_of(tx: Transaction, log: str) -> LogPlace:
    """Return up to where a log was read."""
    row = await tx.fetch_one("SELECT beginning, position FROM log_positions WHERE log = ?", (log,))
    if row is None:
        return LogPlace()
    return LogPlace(beginning=columns.text(row[0]), position=columns.number(row[1]))


async def keep_read(tx: Transaction, read: ReadLines) -> None:
    """Keep what was found, and how far it was read: one commit."""
    await contacts.keep(tx, read.found)
    await tx.execute("DELETE FROM log_positions WHERE log = ?", (read.log,))
    await tx.execute(
        "INSERT INTO log_positions (log, beginning, position) VALUES (?, ?, ?)",
        (read.log, read.place.beginning, read.place.position),
    )


async def keep_shipped(tx: Transaction, shipped: Shipped) -> bool:
    """Keep what was found in a batch; False: it was taken before, and nothing was kept."""
    known = (shipped.shipper, shipped.batch)
    if await tx.fetch_one("SELECT 1 FROM shipped_batches WHERE shipper = ? AND batch = ?", known):
        return False
    await tx.execute(
        "DELETE FROM shipped_batches WHERE taken_at < ?", (times.text(shipped.at - BATCHES_KEPT),)
    )
    await tx.execute(
        "INSERT INTO shipped_batches (shipper, batch, taken_at) VALUES (?, ?, ?)",
        (*known, times.text(shipped.at)),
    )
    await contacts.keep(tx, shipped.found)
    return True
