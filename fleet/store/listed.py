"""What manufacturers' lists say that a device must come with: a key, a certificate, or a TPM.

A thing belongs to one device of a domain; a device may be known by several things.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.things import Thing, ThingKind
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_AT_ONCE = 400
"""Values of one query: SQLite takes 999 parameters in any build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a list says: this thing is this device's, in its domain."""

    thing: Thing
    identity: Identity
    source: str
    listed_at: datetime


async def insert_listings(tx: Transaction, listings: Sequence[Listing]) -> None:
    """Add what lists say; what is listed already stays as it is."""
    await tx.execute_many(
        "INSERT INTO listed (domain, kind, value, device_id, source, listed_at) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (domain, kind, value) DO NOTHING",
        [
            (
                *_key(listing.identity.domain, listing.thing),
                listing.identity.device_id,
                listing.source,
                times.text(listing.listed_at),
            )
            for listing in listings
        ],
    )


async def find_listing(tx: Transaction, domain: str, thing: Thing) -> Listing | None:
    """Return what is listed of a thing in a domain."""
    row = await tx.fetch_one(
        "SELECT domain, kind, value, device_id, source, listed_at FROM listed"
        " WHERE domain = ? AND kind = ? AND value = ?",
        _key(domain, thing),
    )
    return None if row is None else _listing(row)


async def owners(tx: Transaction, domain: str, things: Sequence[Thing]) -> dict[Thing, str]:
    """Return the device ids of those things that are listed in a domain."""
    found: dict[Thing, str] = {}
    for kind in ThingKind:
        values = [thing.value for thing in things if thing.kind is kind]
        for first in range(0, len(values), _AT_ONCE):
            part = values[first : first + _AT_ONCE]
            rows = await tx.fetch_all(
                f"SELECT value, device_id FROM listed WHERE domain = ? AND kind = ?"
                f" AND value IN ({', '.join('?' * len(part))})",
                (domain, kind.value, *part),
            )
            for value, device_id in rows:
                found[Thing(kind=kind, value=columns.text(value))] = columns.text(device_id)
    return found


async def listings_of(tx: Transaction, identity: Identity) -> tuple[Listing, ...]:
    """Return all that lists say of a device."""
    rows = await tx.fetch_all(
        "SELECT domain, kind, value, device_id, source, listed_at FROM listed"
        " WHERE domain = ? AND device_id = ? ORDER BY kind, value",
        (identity.domain, identity.device_id),
    )
    return tuple(_listing(row) for row in rows)


def _key(domain: str, thing: Thing) -> tuple[str, str, str]:
    return (domain, thing.kind.value, thing.value)


def _listing(row: Row) -> Listing:
    domain, kind, value, device_id, source, listed_at = row
    return Listing(
        thing=Thing(kind=ThingKind(columns.text(kind)), value=columns.text(value)),
        identity=Identity(domain=columns.text(domain), device_id=columns.text(device_id)),
        source=columns.text(source),
        listed_at=times.moment(listed_at),
    )
