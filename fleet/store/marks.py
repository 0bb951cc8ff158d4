"""What operators know of a device: its model, its owner, its tags."""

from collections.abc import Sequence
from dataclasses import dataclass

from device_agent.wire.identity import Identity
from fleet.ports import Transaction
from fleet.store import columns
from fleet.store.attributes import attributes_of
from fleet.store.groups import groups_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """All of it; what nobody has said is empty. `groups` are those that it was put in."""

    model: str = ""
    owner: str = ""
    version: str = ""
    """Of its agent, by its own word."""
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()


async def marks_of(tx: Transaction, identity: Identity) -> Marks:
    """Return what is known of a device; nothing, if it is not registered."""
    row = await tx.fetch_one(
        "SELECT model, owner, agent_version FROM devices WHERE domain = ? AND device_id = ?", _key(identity)
    )
    if row is None:
        return Marks()
    return Marks(
        model=columns.text(row[0]),
        owner=columns.text(row[1]),
        version=columns.text(row[2]),
        tags=await tags_of(tx, identity),
        groups=await groups_of(tx, identity),
        attributes=tuple((await attributes_of(tx, identity)).items()),
    )


async def set_model(tx: Transaction, identity: Identity, model: str) -> None:
    """Say what kind of device it is; empty: nobody knows."""
    await tx.execute(
        "UPDATE devices SET model = ? WHERE domain = ? AND device_id = ?", (model, *_key(identity))
    )


async def set_owner(tx: Transaction, identity: Identity, owner: str) -> None:
    """Give a device to somebody; empty: to nobody."""
    await tx.execute(
        "UPDATE devices SET owner = ? WHERE domain = ? AND device_id = ?", (owner, *_key(identity))
    )


async def set_version(tx: Transaction, identity: Identity, version: str) -> None:
    """Note the version of a device's agent, as it tells."""
    await tx.execute(
        "UPDATE devices SET agent_version = ? WHERE domain = ? AND device_id = ? AND agent_version <> ?",
        (version, *_key(identity), version),
    )


async def tags_of(tx: Transaction, identity: Identity) -> tuple[str, ...]:
    """Return the tags that a device bears."""
    rows = await tx.fetch_all(
        "SELECT tag FROM device_tags WHERE domain = ? AND device_id = ? ORDER BY tag", _key(identity)
    )
    return tuple(columns.text(tag) for (tag,) in rows)


async def put_tags(tx: Transaction, identity: Identity, tags: Sequence[str]) -> None:
    """Stick tags on a device; those that it bears stay."""
    await tx.execute_many(
        "INSERT INTO device_tags (tag, domain, device_id) VALUES (?, ?, ?)"
        " ON CONFLICT (tag, domain, device_id) DO NOTHING",
        [(tag, *_key(identity)) for tag in tags],
    )


async def take_tags(tx: Transaction, identity: Identity, tags: Sequence[str]) -> None:
    """Take tags off a device."""
    await tx.execute_many(
        "DELETE FROM device_tags WHERE tag = ? AND domain = ? AND device_id = ?",
        [(tag, *_key(identity)) for tag in tags],
    )


async def drop_attributes(tx: Transaction, identity: Identity, names: Sequence[str]) -> None:
    """Forget attributes of a device."""
    await tx.execute_many(
        "DELETE FROM device_attributes WHERE domain = ? AND device_id = ? AND name = ?",
        [(*_key(identity), name) for name in names],
    )


def _key(identity: Identity) -> tuple[str, str]:
    return (identity.domain, identity.device_id)
