"""The addresses where leaves were told to look for their status: parts of lists go by all of them."""

from dataclasses import dataclass
from datetime import datetime

from fleet.ports import Transaction
from fleet.store import columns, times

_MOST = 8
"""Addresses that a list names: each is as long as an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusUrl:
    """`http://HOST[:PORT]`, and since when new leaves have named it."""

    url: str
    at: datetime


async def note_status_url(tx: Transaction, noted: StatusUrl) -> None:
    """Remember where leaves are sent from now on."""
    await tx.execute(
        "INSERT INTO status_urls (url, since) VALUES (?, ?)"
        " ON CONFLICT (url) DO UPDATE SET since = excluded.since",
        (noted.url, times.text(noted.at)),
    )


async def status_urls(tx: Transaction, _argument: None) -> tuple[str, ...]:
    """Return the newest addresses, the newest first."""
    rows = await tx.fetch_all("SELECT url FROM status_urls ORDER BY since DESC, url LIMIT ?", (_MOST,))
    return tuple(columns.text(row[0]) for row in rows)
