"""What manufacturers' lists say that a device must come with: a key, a certificate, or a TPM.

A thing belongs to one device of a domain; a device may be known by several things.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from device_agent.wire.identity import Identity
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_AT_ONCE = 400
"""Values of one query: SQLite takes 999 parameters in any build."""


class ThingKind(StrEnum):
    """By what a device is known."""

    KEY = "key"
    CERTIFICATE = "certificate"
    SERIAL = "serial"
    EK = "ek"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing in a domain, by its hash or number."""

    domain: str
    kind: ThingKind
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a list says: this thing is this device's."""

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
                *_key(listing.thing),
                listing.identity.device_id,
                listing.source,
                times.text(listing.listed_at),
            )
            for listing in listings
        ],
    )


async def find_listing(tx: Transaction, thing: Thing) -> Listing | None:
    """Return what is listed of a thing."""
    row = await tx.fetch_one(
        "SELECT domain, kind, value, device_id, source, listed_at FROM listed"
        " WHERE domain = ? AND kind = ? AND value = ?",
        _key(thing),
    )
    return None if row is None else _listing(row)


async def owners(tx: Transaction, things: Sequence[Thing]) -> dict[Thing, str]:
    """Return the device ids of those things that are listed."""
    found: dict[Thing, str] = {}
    for first in range(0, len(things), _AT_ONCE):
        part = things[first : first + _AT_ONCE]
        places = ", ".join("?" * len(part))
        wanted = set(part)
        rows = await tx.fetch_all(
            f"SELECT domain, kind, value, device_id FROM listed WHERE value IN ({places})",
            [thing.value for thing in part],
        )
        for domain, kind, value, device_id in rows:
            thing = Thing(
                domain=columns.text(domain), kind=ThingKind(columns.text(kind)), value=columns.text(value)
            )
            if thing in wanted:
                found[thing] = columns.text(device_id)
    return found


async def listings_of(tx: Transaction, identity: Identity) -> tuple[Listing, ...]:
    """Return all that lists say of a device."""
    rows = await tx.fetch_all(
        "SELECT domain, kind, value, device_id, source, listed_at FROM listed"
        " WHERE domain = ? AND device_id = ? ORDER BY kind, value",
        (identity.domain, identity.device_id),
    )
    return tuple(_listing(row) for row in rows)


def _key(thing: Thing) -> tuple[str, str, str]:
    return (thing.domain, thing.kind.value, thing.value)


def _listing(row: Row) -> Listing:
    domain, kind, value, device_id, source, listed_at = row
    return Listing(
        thing=Thing(
            domain=columns.text(domain), kind=ThingKind(columns.text(kind)), value=columns.text(value)
        ),
        identity=Identity(domain=columns.text(domain), device_id=columns.text(device_id)),
        source=columns.text(source),
        listed_at=times.moment(listed_at),
    )
