"""Operators who ask to be let in again, and who vouched for them."""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.readmission import ReadmissionState
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times

_COLUMNS = (
    "readmission, operator, state, key_hash, csr, spoken_code, proved, address, asked_at, expires_at,"
    " decided_at, serial"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadmissionRecord:
    """A row of `readmissions`."""

    readmission: str
    operator: str
    state: ReadmissionState = ReadmissionState.OPEN
    key_hash: str
    csr: str
    spoken_code: str
    proved: str = ""
    address: str = ""
    asked_at: datetime
    expires_at: datetime
    decided_at: datetime | None = None
    serial: str | None = None
    voices: tuple[str, ...] = ()
    """Who vouched, in the order of their names."""


async def insert_readmission(tx: Transaction, record: ReadmissionRecord) -> None:
    """Add a plea, for which nobody has vouched."""
    marks = ", ".join("?" * len(_COLUMNS.split(",")))
    values: tuple[Value, ...] = (
        record.readmission,
        record.operator,
        record.state.value,
        record.key_hash,
        record.csr,
        record.spoken_code,
        record.proved,
        record.address,
        times.text(record.asked_at),
        times.text(record.expires_at),
        times.optional_text(record.decided_at),
        record.serial,
    )
    await tx.execute(f"INSERT INTO readmissions ({_COLUMNS}) VALUES ({marks})", values)


async def load_readmission(tx: Transaction, readmission: str) -> ReadmissionRecord | None:
    """Return a plea by its id."""
    return await _one(tx, "readmission = ?", readmission)


async def of_key(tx: Transaction, key_hash: str) -> ReadmissionRecord | None:
    """Return the plea of a key."""
    return await _one(tx, "key_hash = ?", key_hash)


async def open_of_operator(tx: Transaction, operator: str) -> tuple[ReadmissionRecord, ...]:
    """Return the pleas in somebody's name that nobody has decided on."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM readmissions WHERE operator = ? AND state = ? ORDER BY readmission",
        (operator, ReadmissionState.OPEN.value),
    )
    return tuple([await _record(tx, row) for row in rows])


async def list_readmissions(tx: Transaction, limit: int) -> tuple[ReadmissionRecord, ...]:
    """Return the newest pleas, the newest first; ids begin with the time."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM readmissions ORDER BY readmission DESC LIMIT ?", (limit,)
    )
    return tuple([await _record(tx, row) for row in rows])


async def overdue(tx: Transaction, now: datetime) -> tuple[ReadmissionRecord, ...]:
    """Return the open pleas whose time is over."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM readmissions WHERE state = ? AND expires_at <= ? ORDER BY readmission",
        (ReadmissionState.OPEN.value, times.text(now)),
    )
    return tuple([await _record(tx, row) for row in rows])


async def add_voice(tx: Transaction, readmission: str, voice: str, *, at: datetime) -> bool:
    """Note that somebody vouches; tell whether he had not before."""
    row = await tx.fetch_one(
        "INSERT INTO readmission_voices (readmission, voice, given_at) VALUES (?, ?, ?)"
        " ON CONFLICT (readmission, voice) DO NOTHING RETURNING voice",
        (readmission, voice, times.text(at)),
    )
    return row is not None


async def note_proof(tx: Transaction, record: ReadmissionRecord) -> None:
    """Save how somebody proved more than his word."""
    await tx.execute(
        "UPDATE readmissions SET proved = ? WHERE readmission = ?", (record.proved, record.readmission)
    )


async def save_readmission(tx: Transaction, record: ReadmissionRecord) -> None:
    """Save where a plea stands, since when, and what came of it."""
    await tx.execute(
        "UPDATE readmissions SET state = ?, decided_at = ?, serial = ? WHERE readmission = ?",
        (
            record.state.value,
            times.optional_text(record.decided_at),
            record.serial,
            record.readmission,
        ),
    )


async def _one(tx: Transaction, condition: str, value: str) -> ReadmissionRecord | None:
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM readmissions WHERE {condition}", (value,))
    return None if row is None else await _record(tx, row)


async def _record(tx: Transaction, row: Row) -> ReadmissionRecord:
    readmission = columns.text(row[0])
    voices = await tx.fetch_all(
        "SELECT voice FROM readmission_voices WHERE readmission = ? ORDER BY voice", (readmission,)
    )
    return ReadmissionRecord(
        readmission=readmission,
        operator=columns.text(row[1]),
        state=ReadmissionState(columns.text(row[2])),
        key_hash=columns.text(row[3]),
        csr=columns.text(row[4]),
        spoken_code=columns.text(row[5]),
        proved=columns.text(row[6]),
        address=columns.text(row[7]),
        asked_at=times.moment(row[8]),
        expires_at=times.moment(row[9]),
        decided_at=times.optional_moment(row[10]),
        serial=columns.optional_text(row[11]),
        voices=tuple(columns.text(voice) for (voice,) in voices),
    )
