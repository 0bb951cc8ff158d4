"""Templates of things, as they were handed in."""

from dataclasses import dataclass
from datetime import datetime

from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "name, text, added_at, added_by"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRecord:
    """A row of `templates`; `text` is TOML."""

    name: str
    text: str
    added_at: datetime
    added_by: str


async def put_template(tx: Transaction, record: TemplateRecord) -> None:
    """Add a template, or put it in the place of the one with its name."""
    await tx.execute(
        f"INSERT INTO templates ({_COLUMNS}) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
        " text = excluded.text, added_at = excluded.added_at, added_by = excluded.added_by",
        (record.name, record.text, times.text(record.added_at), record.added_by),
    )


async def load_template(tx: Transaction, name: str) -> TemplateRecord | None:
    """Return a template by its name."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM templates WHERE name = ?", (name,))
    return None if row is None else _record(row)


async def list_templates(tx: Transaction, _argument: None) -> tuple[TemplateRecord, ...]:
    """Return all templates, by name."""
    rows = await tx.fetch_all(f"SELECT {_COLUMNS} FROM templates ORDER BY name")
    return tuple(_record(row) for row in rows)


async def delete_template(tx: Transaction, name: str) -> bool:
    """Take a template away; False where there is none."""
    return await tx.execute("DELETE FROM templates WHERE name = ?", (name,)) == 1


def _record(row: Row) -> TemplateRecord:
    return TemplateRecord(
        name=columns.text(row[0]),
        text=columns.text(row[1]),
        added_at=times.moment(row[2]),
        added_by=columns.text(row[3]),
    )
