"""The writer of a station's files: many lanes, one commit, and each answered after the disk has it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from fleet.errors import RefusedError, StorageFullError, StoreError
from fleet.station.keeping.writer import GroupWriter


def prepare(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT UNIQUE)")


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[GroupWriter]:
    async with GroupWriter.opened(tmp_path / "notes.db", what="the notebook", prepare=prepare) as made:
        yield made


def note(text: str, connection: sqlite3.Connection) -> str:
    connection.execute("INSERT INTO notes VALUES (?)", (text,))
    return text


def limit(pages: int, connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA max_page_count = {pages}")


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM notes").fetchone()[0])


async def test_what_was_answered_is_seen_by_another_connection(writer: GroupWriter, tmp_path: Path) -> None:
    assert await writer.run(partial(note, "a")) == "a"
    with sqlite3.connect(tmp_path / "notes.db") as other:
        assert count(other) == 1


async def test_a_unit_that_fails_takes_nothing_of_its_neighbours_back(writer: GroupWriter) -> None:
    def half(connection: sqlite3.Connection) -> str:
        note("half", connection)
        raise RefusedError("no")

    found = await asyncio.gather(
        *(writer.run(partial(note, f"n{at}")) for at in range(5)),
        writer.run(half),
        return_exceptions=True,
    )
    assert found[:5] == ["n0", "n1", "n2", "n3", "n4"]
    assert isinstance(found[5], RefusedError)
    assert await writer.run(count) == 5


async def test_many_at_once_share_few_commits(writer: GroupWriter, tmp_path: Path) -> None:
    versions: list[int] = []

    def watched(connection: sqlite3.Connection) -> None:
        note(f"n{len(versions)}", connection)
        with sqlite3.connect(tmp_path / "notes.db") as other:
            versions.append(count(other))

    await asyncio.gather(*(writer.run(watched) for _ in range(100)))
    # The first was alone, the others came while it was being written.
    assert sorted(set(versions)) == [0, 1]


async def test_a_full_disk_is_told_to_all_and_keeps_nothing(writer: GroupWriter) -> None:
    await writer.run(partial(limit, 4))
    with pytest.raises(StorageFullError):
        await writer.run(partial(note, "x" * 100_000))
    assert await writer.run(count) == 0
    await writer.run(partial(limit, 400))
    assert await writer.run(partial(note, "room")) == "room"


async def test_who_went_away_is_not_waited_for(writer: GroupWriter) -> None:
    gone = asyncio.ensure_future(writer.run(partial(note, "gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert await writer.run(partial(note, "here")) == "here"


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="the notebook"):
        async with GroupWriter.opened(path, what="the notebook", prepare=prepare):
            pass
