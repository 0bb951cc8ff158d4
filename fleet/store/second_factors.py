"""People's second factors: the sealed secret of each, and which of its codes were used."""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.second_factor import FactorState
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "operator, sealed, last_step, wrong, made_at, confirmed_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorRecord:
    """A row of `second_factors`."""

    operator: str
    sealed: bytes
    state: FactorState
    made_at: datetime
    confirmed_at: datetime | None = None


async def load_factor(tx: Transaction, operator: str) -> FactorRecord | None:
    """Return somebody's second factor."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM second_factors WHERE operator = ?", (operator,))
    return None if row is None else _record(row)


async def list_factors(tx: Transaction, _argument: None) -> tuple[FactorRecord, ...]:
    """Return everybody's, by name."""
    rows = await tx.fetch_all(f"SELECT {_COLUMNS} FROM second_factors ORDER BY operator")
    return tuple(_record(row) for row in rows)


async def put_factor(tx: Transaction, record: FactorRecord) -> None:
    """Put a factor on record, in place of the one before."""
    await drop_factor(tx, record.operator)
    await tx.execute(
        f"INSERT INTO second_factors ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
        (
            record.operator,
            record.sealed,
            record.state.last_step,
            record.state.wrong,
            times.text(record.made_at),
            times.optional_text(record.confirmed_at),
        ),
    )


async def save_state(tx: Transaction, operator: str, state: FactorState) -> None:
    """Remember what a code has changed."""
    await tx.execute(
        "UPDATE second_factors SET last_step = ?, wrong = ? WHERE operator = ?",
        (state.last_step, state.wrong, operator),
    )


async def confirm_factor(tx: Transaction, operator: str, *, at: datetime) -> None:
    """Note that a factor counts from now on."""
    await tx.execute(
        "UPDATE second_factors SET confirmed_at = ? WHERE operator = ?", (times.text(at), operator)
    )


async def drop_factor(tx: Transaction, operator: str) -> None:
    """Forget somebody's second factor."""
    await tx.execute("DELETE FROM second_factors WHERE operator = ?", (operator,))


def _record(row: Row) -> FactorRecord:
    operator, sealed, last_step, wrong, made_at, confirmed_at = row
    return FactorRecord(
        operator=columns.text(operator),
        sealed=columns.octets(sealed),
        state=FactorState(last_step=columns.number(last_step), wrong=columns.number(wrong)),
        made_at=times.moment(made_at),
        confirmed_at=times.optional_moment(confirmed_at),
    )
