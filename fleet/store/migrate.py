"""Brings a database to the schema of this program, by the numbered scripts in `migrations/`.

It never runs a script twice, nor one that was changed after it had run; a schema that it does not
know is refused, not guessed at.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from fleet.errors import StoreError
from fleet.ports import Transaction
from fleet.store import columns

_NAME = re.compile(r"(\d{4})_([a-z_]+)\.sql")
_RESTORE = "restore the fleet home from a backup"
_IN_THE_WAY = ("already exists", "duplicate column")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One script; `number` counts from 1, without gaps."""

    number: int
    name: str
    script: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the script, hex."""
        return hashlib.sha256(self.script.encode()).hexdigest()

    def statements(self) -> tuple[str, ...]:
        """Return the statements of the script: each ends with a semicolon at the end of a line."""
        code = "\n".join(line for line in self.script.splitlines() if not line.lstrip().startswith("--"))
        return tuple(part.strip() for part in re.split(r";[ \t]*(?:\n|\Z)", code) if part.strip())


def known_migrations() -> tuple[Migration, ...]:
    """Return the scripts of this program, in order."""
    found = []
    for file in resources.files("fleet.store").joinpath("migrations").iterdir():
        if match := _NAME.fullmatch(file.name):
            script = file.read_text(encoding="utf-8")
            found.append(Migration(number=int(match[1]), name=match[2], script=script))
    return tuple(sorted(found, key=lambda migration: migration.number))


async def migrate(tx: Transaction, known: Sequence[Migration]) -> int:
    """Run what is missing, all in one transaction; return how many scripts ran.

    Raises:
        StoreError: the schema is newer than this program, was half made, or made by another script.
    """
    await tx.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (number BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)"
    )
    rows = await tx.fetch_all("SELECT number, checksum FROM schema_migrations ORDER BY number")
    applied = {columns.number(row[0]): columns.text(row[1]) for row in rows}
    _check(applied, known)
    missing = [migration for migration in known if migration.number not in applied]
    for migration in missing:
        await _run(tx, migration)
    return len(missing)


def _check(applied: dict[int, str], known: Sequence[Migration]) -> None:
    newest = max(applied, default=0)
    if newest > len(known):
        raise StoreError(
            f"the database has schema {newest}, and this program knows schemas up to {len(known)}",
            hint="run the version of fleet that wrote it, or a newer one",
        )
    gaps = sorted(set(range(1, newest + 1)) - set(applied))
    if gaps:
        raise StoreError(f"migration {gaps[0]:04} of the database was half run", hint=_RESTORE)
    for migration in known[:newest]:
        if applied[migration.number] != migration.checksum:
            raise StoreError(
                f"migration {migration.number:04} of the database is not the one of this program",
                hint="run the version of fleet that wrote it",
            )


async def _run(tx: Transaction, migration: Migration) -> None:
    try:
        await _execute_all(tx, migration.statements())
    except StoreError as error:
        if not any(word in str(error) for word in _IN_THE_WAY):
            raise
        # A script that fails leaves nothing behind, so what is in the way came from outside of it.
        raise StoreError(
            f"migration {migration.number:04} of the database was half run: {error}", hint=_RESTORE
        ) from error
    await tx.execute(
        "INSERT INTO schema_migrations (number, name, checksum) VALUES (?, ?, ?)",
        (migration.number, migration.name, migration.checksum),
    )


async def _execute_all(tx: Transaction, statements: Iterable[str]) -> None:
    for statement in statements:
        await tx.execute(statement)
