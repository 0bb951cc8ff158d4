"""People who may act, and in which role. Their certificates have the purpose `operator` and their name."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fleet.core.second_person import Person
from fleet.model import Role
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "name, role, added_at, removed_at, added_by"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRecord:
    """An operator; one that was removed stays on record, for what the audit trail tells of him."""

    name: str
    role: Role
    added_at: datetime
    removed_at: datetime | None = None
    added_by: str = ""
    """A name, or empty where nobody remembers."""


async def insert_operator(tx: Transaction, operator: OperatorRecord) -> None:
    """Add an operator whose name was never used."""
    await tx.execute(
        f"INSERT INTO operators ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
        (
            operator.name,
            operator.role.value,
            times.text(operator.added_at),
            times.optional_text(operator.removed_at),
            operator.added_by,
        ),
    )


async def load_operator(tx: Transaction, name: str) -> OperatorRecord | None:
    """Return an operator by name, removed ones too."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM operators WHERE name = ?", (name,))
    return None if row is None else _operator(row)


async def list_operators(tx: Transaction, _argument: None) -> tuple[OperatorRecord, ...]:
    """Return all operators, removed ones too."""
    rows = await tx.fetch_all(f"SELECT {_COLUMNS} FROM operators ORDER BY name")
    return tuple(_operator(row) for row in rows)


async def load_people(tx: Transaction, _argument: None) -> Mapping[str, Person]:
    """Return everybody who is or was an operator, and who made him one."""
    return {
        each.name: Person(added_at=each.added_at, added_by=each.added_by)
        for each in await list_operators(tx, None)
    }


async def remove_operator(tx: Transaction, name: str, *, at: datetime) -> None:
    """Note that an operator may not act any more."""
    await tx.execute(
        "UPDATE operators SET removed_at = ? WHERE name = ? AND removed_at IS NULL", (times.text(at), name)
    )


def _operator(row: Row) -> OperatorRecord:
    name, role, added_at, removed_at, added_by = row
    return OperatorRecord(
        name=columns.text(name),
        role=Role(columns.text(role)),
        added_at=times.moment(added_at),
        removed_at=times.optional_moment(removed_at),
        added_by=columns.text(added_by),
    )
