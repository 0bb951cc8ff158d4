"""Who devices belong to, and where he is told of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.ports import Transaction
from fleet.store import columns, times


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A company, a department, a person; `contacts` are mail addresses."""

    name: str
    about: str = ""
    contacts: tuple[str, ...] = ()
    added_at: datetime
    removed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts:
    """Where the owner of a device is told of it."""

    owner: str
    addresses: tuple[str, ...]


async def save_owner(tx: Transaction, owner: Owner) -> None:
    """Add an owner, or change who he is; his devices stay his."""
    await tx.execute(
        "INSERT INTO owners (name, about, added_at, removed_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET about = excluded.about, removed_at = excluded.removed_at",
        (owner.name, owner.about, times.text(owner.added_at), times.optional_text(owner.removed_at)),
    )
    await tx.execute("DELETE FROM owner_contacts WHERE owner = ?", (owner.name,))
    await tx.execute_many(
        "INSERT INTO owner_contacts (owner, position, address) VALUES (?, ?, ?)",
        [(owner.name, position, address) for position, address in enumerate(owner.contacts)],
    )


async def load_owner(tx: Transaction, name: str) -> Owner | None:
    """Return an owner by his name."""
    found = [owner for owner in await list_owners(tx, None) if owner.name == name]
    return found[0] if found else None


async def list_owners(tx: Transaction, _argument: None) -> tuple[Owner, ...]:
    """Return all owners, by name."""
    addresses = await _addresses(tx)
    rows = await tx.fetch_all("SELECT name, about, added_at, removed_at FROM owners ORDER BY name")
    return tuple(
        Owner(
            name=columns.text(row[0]),
            about=columns.text(row[1]),
            contacts=addresses.get(columns.text(row[0]), ()),
            added_at=times.moment(row[2]),
            removed_at=times.optional_moment(row[3]),
        )
        for row in rows
    )


async def count_owned(tx: Transaction, name: str) -> int:
    """Return how many devices belong to somebody; retired ones count."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM devices d WHERE d.owner <> '' AND d.owner = ?", (name,))
    return 0 if row is None else columns.number(row[0])


async def contacts_of(tx: Transaction, devices: Sequence[Identity]) -> Mapping[Identity, Contacts]:
    """Return where the owners of devices are told of them; devices that nobody owns are left out."""
    addresses = await _addresses(tx)
    found = {}
    for device in devices:
        row = await tx.fetch_one(
            "SELECT owner FROM devices WHERE domain = ? AND device_id = ?", (device.domain, device.device_id)
        )
        if row is not None and (owner := columns.text(row[0])):
            found[device] = Contacts(owner=owner, addresses=addresses.get(owner, ()))
    return found


async def _addresses(tx: Transaction) -> Mapping[str, tuple[str, ...]]:
    rows = await tx.fetch_all("SELECT owner, address FROM owner_contacts ORDER BY owner, position")
    found: dict[str, tuple[str, ...]] = {}
    for owner, address in rows:
        name = columns.text(owner)
        found[name] = (*found.get(name, ()), columns.text(address))
    return found
