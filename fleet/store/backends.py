"""Programs of the fleet's owner, with certificates as services have them, and the topics of each."""

from dataclasses import dataclass
from datetime import datetime

from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "name, reads, writes, added_at, revoked_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRecord:
    """A backend; one that was revoked stays on record, for what the audit trail tells of it."""

    name: str
    reads: tuple[str, ...]
    """Topic filters that it may subscribe to."""
    writes: tuple[str, ...]
    """Topic filters: what they match it may publish to."""
    added_at: datetime
    revoked_at: datetime | None = None


async def insert_backend(tx: Transaction, backend: BackendRecord) -> None:
    """Add a backend whose name was never used."""
    await tx.execute(
        f"INSERT INTO backends ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
        (
            backend.name,
            "\n".join(backend.reads),
            "\n".join(backend.writes),
            times.text(backend.added_at),
            times.optional_text(backend.revoked_at),
        ),
    )


async def load_backend(tx: Transaction, name: str) -> BackendRecord | None:
    """Return a backend by name, revoked ones too."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM backends WHERE name = ?", (name,))
    return None if row is None else _backend(row)


async def list_backends(tx: Transaction, _argument: None) -> tuple[BackendRecord, ...]:
    """Return all backends, revoked ones too."""
    return tuple(
        _backend(row) for row in await tx.fetch_all(f"SELECT {_COLUMNS} FROM backends ORDER BY name")
    )


async def revoke_backend(tx: Transaction, name: str, *, at: datetime) -> None:
    """Note that a backend has no access any more."""
    await tx.execute(
        "UPDATE backends SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL", (times.text(at), name)
    )


def _backend(row: Row) -> BackendRecord:
    name, reads, writes, added_at, revoked_at = row
    return BackendRecord(
        name=columns.text(name),
        reads=tuple(columns.text(reads).splitlines()),
        writes=tuple(columns.text(writes).splitlines()),
        added_at=times.moment(added_at),
        revoked_at=times.optional_moment(revoked_at),
    )
