"""The line's own book, beside the ledger: which label is which unit's, and what is still to be delivered.

What is in it is on the disk before a lane goes on, and nothing is taken out before it arrived: a printer or
a factory's system that is away for a week loses nothing and stops nobody.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

from device_agent.wire.fields import time_text
from fleet.errors import StoreError
from fleet.station.keeping.writer import GroupWriter

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE bindings (
    label       TEXT PRIMARY KEY,
    hardware_id TEXT NOT NULL UNIQUE,
    port        TEXT NOT NULL,
    device_id   TEXT NOT NULL,
    bound_at    TEXT NOT NULL
);
CREATE TABLE jobs (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,
    id       TEXT NOT NULL,
    unit     TEXT NOT NULL,
    body     TEXT NOT NULL,
    due_at   TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    problem  TEXT NOT NULL DEFAULT '',
    done_at  TEXT,
    UNIQUE (kind, id)
);
CREATE INDEX jobs_waiting ON jobs (kind, due_at, number) WHERE done_at IS NULL;
CREATE INDEX jobs_by_unit ON jobs (unit);
"""


class Kind(StrEnum):
    """Where a job goes."""

    FILE = "file"
    HOOK = "hook"
    LABEL = "label"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something to be delivered once. `unit` is the hardware id that it tells of."""

    kind: Kind
    id: str
    unit: str
    body: str
    number: int = 0
    """Its place in the queue; 0 before it has one."""
    attempts: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A label, and the unit and port that it was scanned for."""

    label: str
    hardware_id: str
    port: str
    device_id: str = ""


class Book:
    """The book of one station."""

    def __init__(self, writer: GroupWriter, clock: Callable[[], datetime]) -> None:
        self._writer = writer
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path, *, clock: Callable[[], datetime]) -> AsyncIterator[Self]:
        """Open the book, or begin one; raises StoreError."""
        what = f"the line's book {path}"
        async with GroupWriter.opened(path, what=what, prepare=_prepare) as writer:
            yield cls(writer, clock)

    async def bind(self, binding: Binding) -> Binding:
        """Bind a label to a unit; return what is bound now, which may be another label or unit."""
        return await self._writer.run(lambda db: _bind(db, binding, self._now()))

    async def binding_of(self, hardware_id: str) -> Binding | None:
        """Return the label of a unit."""
        return await self._writer.run(lambda db: _binding(db, "hardware_id", hardware_id))

    async def add(self, jobs: Sequence[Job]) -> None:
        """Queue jobs; one whose kind and id are there already changes nothing."""
        if jobs:
            await self._writer.run(lambda db: _add(db, jobs, self._now()))

    async def due(self, kind: Kind, *, limit: int) -> tuple[Job, ...]:
        """Return the jobs of a kind whose time has come, the oldest first."""
        return await self._writer.run(lambda db: _due(db, kind, limit, self._now()))

    async def waiting(self, kind: Kind) -> int:
        """Return how many jobs of a kind were not delivered."""
        return await self._writer.run(lambda db: _waiting(db, kind))

    async def problem(self, kind: Kind) -> str:
        """Return why the oldest job that was refused was; empty where none is."""
        return await self._writer.run(lambda db: _problem(db, kind))

    async def done(self, jobs: Sequence[Job]) -> None:
        """Note that jobs arrived."""
        numbers = [(self._now(), job.number) for job in jobs]
        await self._writer.run(
            lambda db: db.executemany("UPDATE jobs SET done_at = ?, problem = '' WHERE number = ?", numbers)
        )

    async def put_off(self, job: Job, *, problem: str, until: datetime) -> None:
        """Note why a job did not arrive, and when it is tried again."""
        row = (problem, time_text(until), job.number)
        await self._writer.run(
            lambda db: db.execute(
                "UPDATE jobs SET attempts = attempts + 1, problem = ?, due_at = ? WHERE number = ?", row
            )
        )

    async def again(self, kind: Kind, unit: str) -> int:
        """Deliver anew what was told of a unit, by its hardware id or its label; return how many jobs."""
        return await self._writer.run(lambda db: _again(db, kind, unit, self._now()))

    def _now(self) -> str:
        return time_text(self._clock())


def _prepare(db: sqlite3.Connection) -> None:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version == 0:
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    elif version != _SCHEMA_VERSION:
        raise StoreError(f"the line's book is of version {version}, this program writes {_SCHEMA_VERSION}")


def _bind(db: sqlite3.Connection, binding: Binding, now: str) -> Binding:
    for column, value in (("label", binding.label), ("hardware_id", binding.hardware_id)):
        known = _binding(db, column, value)
        if known and (known.label, known.hardware_id) != (binding.label, binding.hardware_id):
            return known
    db.execute(
        "INSERT INTO bindings (label, hardware_id, port, device_id, bound_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (label) DO UPDATE SET port = excluded.port, device_id = excluded.device_id",
        (binding.label, binding.hardware_id, binding.port, binding.device_id, now),
    )
    return binding


def _binding(db: sqlite3.Connection, column: str, value: str) -> Binding | None:
    row = db.execute(
        f"SELECT label, hardware_id, port, device_id FROM bindings WHERE {column} = ?",  # noqa: S608 - ours
        (value,),
    ).fetchone()
    return None if row is None else Binding(label=row[0], hardware_id=row[1], port=row[2], device_id=row[3])


def _add(db: sqlite3.Connection, jobs: Sequence[Job], now: str) -> None:
    db.executemany(
        "INSERT INTO jobs (kind, id, unit, body, due_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (kind, id) DO NOTHING",
        [(job.kind, job.id, job.unit, job.body, now) for job in jobs],
    )


def _due(db: sqlite3.Connection, kind: Kind, limit: int, now: str) -> tuple[Job, ...]:
    rows = db.execute(
        "SELECT number, id, unit, body, attempts, problem FROM jobs"
        " WHERE kind = ? AND done_at IS NULL AND due_at <= ? ORDER BY due_at, number LIMIT ?",
        (kind, now, limit),
    )
    return tuple(
        Job(kind=kind, number=row[0], id=row[1], unit=row[2], body=row[3], attempts=row[4], problem=row[5])
        for row in rows
    )


def _waiting(db: sqlite3.Connection, kind: Kind) -> int:
    row = db.execute("SELECT count(*) FROM jobs WHERE kind = ? AND done_at IS NULL", (kind,)).fetchone()
    return int(row[0])


def _problem(db: sqlite3.Connection, kind: Kind) -> str:
    row = db.execute(
        "SELECT problem FROM jobs WHERE kind = ? AND done_at IS NULL AND problem <> ''"
        " ORDER BY number LIMIT 1",
        (kind,),
    ).fetchone()
    return "" if row is None else str(row[0])


def _again(db: sqlite3.Connection, kind: Kind, unit: str, now: str) -> int:
    labelled = _binding(db, "label", unit)
    return db.execute(
        "UPDATE jobs SET done_at = NULL, due_at = ?, attempts = 0 WHERE kind = ? AND unit IN (?, ?)",
        (now, kind, unit, labelled.hardware_id if labelled else unit),
    ).rowcount
