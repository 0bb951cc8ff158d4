"""Named sets of devices: those that were put in, or those that a query finds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.query import Condition, expand, fields_of, size_of
from fleet.core.query_text import parse_query
from fleet.errors import BadInputError
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "name, query, note, made_at"
MOST_EXPANDED = 256
"""Terms of a query, with those of the groups that it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A set of devices; `query` is None where its members were put in one by one."""

    name: str
    query: str | None = None
    note: str = ""
    made_at: datetime


async def insert_group(tx: Transaction, group: Group) -> None:
    """Add a group that is not there yet."""
    await tx.execute(
        f"INSERT INTO device_groups ({_COLUMNS}) VALUES (?, ?, ?, ?)",
        (group.name, group.query, group.note, times.text(group.made_at)),
    )


async def delete_group(tx: Transaction, name: str) -> None:
    """Forget a group that has no members."""
    await tx.execute("DELETE FROM device_groups WHERE name = ?", (name,))


async def count_members(tx: Transaction, name: str) -> int:
    """Return how many devices were put into a group."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM group_members WHERE name = ?", (name,))
    return 0 if row is None else columns.number(row[0])


async def load_group(tx: Transaction, name: str) -> Group | None:
    """Return a group by its name."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM device_groups WHERE name = ?", (name,))
    return None if row is None else _group(row)


async def list_groups(tx: Transaction, _argument: None = None) -> tuple[Group, ...]:
    """Return all groups, by name."""
    rows = await tx.fetch_all(f"SELECT {_COLUMNS} FROM device_groups ORDER BY name")
    return tuple(_group(row) for row in rows)


async def groups_of(tx: Transaction, identity: Identity) -> tuple[str, ...]:
    """Return the groups that a device was put in, by name."""
    rows = await tx.fetch_all(
        "SELECT name FROM group_members WHERE domain = ? AND device_id = ? ORDER BY name",
        (identity.domain, identity.device_id),
    )
    return tuple(columns.text(name) for (name,) in rows)


async def dynamic_groups(tx: Transaction) -> Mapping[str, Condition]:
    """Return the groups that are queries, by name, each as what it asks."""
    rows = await tx.fetch_all("SELECT name, query FROM device_groups WHERE query IS NOT NULL ORDER BY name")
    return {columns.text(name): parse_query(columns.text(query)).condition for name, query in rows}


async def asked_groups(tx: Transaction, condition: Condition) -> Condition:
    """Return a condition in which groups that are queries are asked as such.

    Raises:
        BadInputError: they make it longer than a query may be.
    """
    if "group" not in fields_of(condition):
        return condition
    dynamic = await dynamic_groups(tx)
    sizes = {name: size_of(asked, {}) for name, asked in dynamic.items()}
    if (size := size_of(condition, sizes)) > MOST_EXPANDED:
        raise BadInputError(
            f"with the groups that it names, the query has {size} terms, and {MOST_EXPANDED} is the most",
            hint="name fewer groups that are queries: fleet group list",
        )
    return expand(condition, dynamic)


def _group(row: Row) -> Group:
    return Group(
        name=columns.text(row[0]),
        query=columns.optional_text(row[1]),
        note=columns.text(row[2]),
        made_at=times.moment(row[3]),
    )
