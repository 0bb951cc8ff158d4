"""What those who witness the audit trail have cosigned last."""

from dataclasses import dataclass
from datetime import datetime

from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "name, size, cosignature, cosigned_at, tried_at, problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessRecord:
    """A witness as it answered last; `cosignature` is its line below the checkpoint over `size` entries."""

    name: str
    tried_at: datetime
    size: int = 0
    cosignature: str | None = None
    cosigned_at: datetime | None = None
    problem: str = ""


async def witnesses(tx: Transaction, _argument: None = None) -> tuple[WitnessRecord, ...]:
    """Return all that were ever asked, by name."""
    rows = await tx.fetch_all(f"SELECT {_COLUMNS} FROM audit_witnesses ORDER BY name")
    return tuple(_record(row) for row in rows)


async def save_witness(tx: Transaction, record: WitnessRecord) -> None:
    """Put down how a witness answered."""
    await tx.execute(
        f"INSERT INTO audit_witnesses ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
        " size = excluded.size, cosignature = excluded.cosignature, cosigned_at = excluded.cosigned_at,"
        " tried_at = excluded.tried_at, problem = excluded.problem",
        (
            record.name,
            record.size,
            record.cosignature,
            None if record.cosigned_at is None else times.text(record.cosigned_at),
            times.text(record.tried_at),
            record.problem,
        ),
    )


def _record(row: Row) -> WitnessRecord:
    name, size, line, cosigned_at, tried_at, problem = row
    return WitnessRecord(
        name=columns.text(name),
        size=columns.number(size),
        cosignature=columns.optional_text(line),
        cosigned_at=None if cosigned_at is None else times.moment(cosigned_at),
        tried_at=times.moment(tried_at),
        problem=columns.text(problem),
    )
