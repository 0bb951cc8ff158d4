"""What operators know of a device: its model, its owner, its tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_agent.wire.identity import Identity
from fleet.core.marking import Marks
from fleet.ports import Transaction
from fleet.store import columns
from fleet.store.attributes import attributes_of, put_attributes
from fleet.store.groups import groups_of


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


async def save_marks(
    tx: Transaction, identity: Identity, before: Marks, *, after: Marks, source: str
) -> None:
    """Write what became of a device; `before` is what `marks_of` returned in this same unit."""
    if (before.model, before.owner) != (after.model, after.owner):
        await tx.execute(
            "UPDATE devices SET model = ?, owner = ? WHERE domain = ? AND device_id = ?",
            (after.model, after.owner, *_key(identity)),
        )
    for table, column, old, new in (
        ("device_tags", "tag", set(before.tags), set(after.tags)),
        ("group_members", "name", set(before.groups), set(after.groups)),
    ):
        await tx.execute_many(
            f"INSERT INTO {table} ({column}, domain, device_id) VALUES (?, ?, ?)"
            f" ON CONFLICT ({column}, domain, device_id) DO NOTHING",
            [(word, *_key(identity)) for word in sorted(new - old)],
        )
        await tx.execute_many(
            f"DELETE FROM {table} WHERE {column} = ? AND domain = ? AND device_id = ?",
            [(word, *_key(identity)) for word in sorted(old - new)],
        )
    await _save_attributes(tx, identity, dict(before.attributes), dict(after.attributes), source)


async def _save_attributes(
    tx: Transaction, identity: Identity, old: dict[str, str], new: dict[str, str], source: str
) -> None:
    changed = {name: value for name, value in new.items() if old.get(name) != value}
    await put_attributes(tx, identity, changed, source=source)
    await tx.execute_many(
        "DELETE FROM device_attributes WHERE domain = ? AND device_id = ? AND name = ?",
        [(*_key(identity), name) for name in sorted(old.keys() - new.keys())],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TellsVersion:
    """Which version of its agent a device tells."""

    identity: Identity
    version: str


async def is_news(tx: Transaction, told: TellsVersion) -> bool:
    """Say whether a registered device told another version before, or none."""
    row = await tx.fetch_one(
        "SELECT 1 FROM devices WHERE domain = ? AND device_id = ? AND agent_version <> ?",
        (*_key(told.identity), told.version),
    )
    return row is not None


async def set_version(tx: Transaction, told: TellsVersion) -> None:
    """Note the version of a device's agent."""
    await tx.execute(
        "UPDATE devices SET agent_version = ? WHERE domain = ? AND device_id = ?",
        (told.version, *_key(told.identity)),
    )


async def tags_of(tx: Transaction, identity: Identity) -> tuple[str, ...]:
    """Return the tags that a device bears."""
    rows = await tx.fetch_all(
        "SELECT tag FROM device_tags WHERE domain = ? AND device_id = ? ORDER BY tag", _key(identity)
    )
    return tuple(columns.text(tag) for (tag,) in rows)


async def marks_of_many(tx: Transaction, identities: Sequence[Identity]) -> Mapping[Identity, Marks]:
    """Return what is known of some devices."""
    return {identity: await marks_of(tx, identity) for identity in identities}


def _key(identity: Identity) -> tuple[str, str]:
    return (identity.domain, identity.device_id)
