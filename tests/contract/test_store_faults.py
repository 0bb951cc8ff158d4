"""What goes wrong around a database file: full disks, locks, rights, power cuts, other versions."""

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import StorageFullError, StoreError
from fleet.ports import Transaction
from fleet.store.sqlite import create_store, open_store

WRITER = """
import asyncio, sys
from pathlib import Path
from fleet.store.sqlite import create_store

async def put(tx, number):
    await tx.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (f"{number:06}", "x" * 100))

async def main():
    async with create_store(Path(sys.argv[1])) as store:
        for number in range(1_000_000):
            await store.write(put, number)
            print(number, flush=True)

asyncio.run(main())
"""


async def put(tx: Transaction, fact: tuple[str, str]) -> None:
    await tx.execute("INSERT INTO meta (name, value) VALUES (?, ?)", fact)


async def limit_pages(tx: Transaction, pages: int) -> None:
    await tx.fetch_one(f"PRAGMA max_page_count = {pages}")


async def names(tx: Transaction, _argument: None) -> list[str]:
    return [str(name) for (name,) in await tx.fetch_all("SELECT name FROM meta ORDER BY name")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.db"


async def made(path: Path) -> Path:
    async with create_store(path):
        return path


@contextmanager
def nobody() -> Iterator[None]:
    """Act as a user without rights; for root, file modes do not count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter: that of `tmp_path` is its owner's alone."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def file_size_limit(octets: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk would (setrlimit(2), RLIMIT_FSIZE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_new_database_belongs_to_its_owner_alone(path: Path) -> None:
    async with create_store(path) as store:
        await store.write(put, ("a", "1"))
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


async def test_it_waits_for_the_disk_with_every_commit(path: Path) -> None:
    async def pragmas(tx: Transaction, _argument: None) -> list[object]:
        mode = await tx.fetch_one("PRAGMA journal_mode")
        synchronous = await tx.fetch_one("PRAGMA synchronous")
        keys = await tx.fetch_one("PRAGMA foreign_keys")
        return [mode, synchronous, keys]

    async with create_store(path) as store:
        assert await store.write(pragmas, None) == [("wal",), (2,), (1,)]


async def test_a_database_that_exists_is_never_made_anew(path: Path) -> None:
    await made(path)
    with pytest.raises(StoreError, match="exists already"):
        await made(path)


async def test_a_database_that_is_not_there_is_not_made_in_passing(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no") as caught:
        async with open_store(path):
            pass
    assert caught.value.hint == "fleet init makes a fleet home"
    assert list(path.parent.iterdir()) == []


async def test_a_second_server_is_refused_in_one_sentence(path: Path) -> None:
    async with create_store(path) as store:
        with pytest.raises(StoreError, match=r"fleet\.db is in use by another process$"):
            async with open_store(path):
                pass
        await store.write(put, ("a", "1"))


async def test_the_database_is_free_again_once_it_was_closed(path: Path) -> None:
    await made(path)
    async with open_store(path) as store:
        assert await store.read(names, None) == []


async def test_a_full_disk_fails_what_was_asked_and_nothing_else(path: Path) -> None:
    async with create_store(path) as store:
        await store.write(put, ("before", "1"))
        await store.write(limit_pages, 1)  # SQLite takes the present size, if that is larger
        with pytest.raises(StorageFullError, match="nothing of this was kept"):
            await store.write(put, ("too much", "x" * 100_000))
        await store.write(limit_pages, 1_000_000)
        await store.write(put, ("after", "1"))
        assert await store.read(names, None) == ["after", "before"]


async def test_after_a_write_that_the_disk_refused_the_store_goes_on(path: Path) -> None:
    async with create_store(path) as store:
        await store.write(put, ("before", "1"))
        with file_size_limit(300_000), pytest.raises(StoreError):
            await store.write(put, ("too much", "x" * 1_000_000))
        await store.write(put, ("after", "1"))
        assert await store.read(names, None) == ["after", "before"]
    async with open_store(path) as store:
        assert await store.read(names, None) == ["after", "before"]


async def test_while_the_disk_stays_broken_each_write_fails_and_then_works_again(path: Path) -> None:
    away = path.with_name("away.db")
    async with create_store(path) as store:
        await store.write(put, ("before", "1"))
        with file_size_limit(300_000), pytest.raises(StoreError, match="the disk failed"):
            await store.write(put, ("too much", "x" * 1_000_000))
        path.rename(away)
        with pytest.raises(StoreError, match="cannot be opened"):
            await store.write(put, ("lost", "1"))
        away.rename(path)
        await store.write(put, ("after", "1"))
        assert await store.read(names, None) == ["after", "before"]


async def test_who_is_in_a_full_commit_is_told_each(path: Path) -> None:
    async with create_store(path) as store:
        with file_size_limit(200_000):
            results = await asyncio.gather(
                *(store.write(put, (str(number), "x" * 100_000)) for number in range(8)),
                return_exceptions=True,
            )
        failed = [result for result in results if isinstance(result, StoreError)]
        assert len(failed) == 8
        assert len({id(result) for result in failed}) == 8


async def test_a_database_without_the_right_to_write_says_so(open_folder: Path) -> None:
    path = await made(open_folder / "fleet.db")
    path.chmod(0o444)
    open_folder.chmod(0o555)
    with nobody(), pytest.raises(StoreError, match="cannot be opened") as caught:
        async with open_store(path):
            pass
    assert caught.value.hint == "give the user of fleet the right to write it, and its folder"


async def test_a_folder_without_the_right_to_write_says_so(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    with nobody(), pytest.raises(StoreError, match="cannot be opened: Permission denied"):
        await made(open_folder / "fleet.db")


async def test_a_program_that_holds_the_write_lock_is_named_as_the_cause(path: Path) -> None:
    await made(path)
    other = sqlite3.connect(path, isolation_level=None)
    async with open_store(path, busy_timeout=timedelta(0)) as store:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another program"):
            await store.write(put, ("a", "1"))
        other.execute("ROLLBACK")
        await store.write(put, ("b", "1"))
        assert await store.read(names, None) == ["b"]
    other.close()


async def test_a_program_that_reads_is_not_in_the_way(path: Path) -> None:
    await made(path)
    other = sqlite3.connect(path, isolation_level=None)
    async with open_store(path, busy_timeout=timedelta(0)) as store:
        other.execute("BEGIN")
        other.execute("SELECT * FROM meta").fetchall()
        await store.write(put, ("a", "1"))
        assert other.execute("SELECT * FROM meta").fetchall() == []
    other.close()


async def test_a_schema_of_a_newer_program_is_refused(path: Path) -> None:
    await made(path)
    alter(path, "INSERT INTO schema_migrations VALUES (9999, 'later', '')")
    with pytest.raises(StoreError, match=r"the database has schema 9999, and this program knows") as caught:
        async with open_store(path):
            pass
    assert caught.value.hint == "run the version of fleet that wrote it, or a newer one"


async def test_a_migration_that_was_changed_after_it_had_run_is_refused(path: Path) -> None:
    await made(path)
    alter(path, "UPDATE schema_migrations SET checksum = 'other' WHERE number = 1")
    with pytest.raises(StoreError, match="migration 0001 of the database is not the one of this program"):
        async with open_store(path):
            pass


async def test_a_migration_that_was_half_run_is_refused_and_named(path: Path) -> None:
    await made(path)
    alter(path, "DELETE FROM schema_migrations")
    with pytest.raises(StoreError, match=r"migration 0001 of the database was half run: .* already exists"):
        async with open_store(path):
            pass
    with pytest.raises(StoreError, match="half run"):  # the attempt has changed nothing
        async with open_store(path):
            pass


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to look at" * 40)
    with pytest.raises(StoreError, match="the file is no database"):
        async with open_store(path):
            pass
    assert path.read_bytes().startswith(b"not a database")


async def test_what_was_answered_survives_the_death_of_the_server(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        answered = [server.stdout.readline().strip() for _ in range(50)]
        server.send_signal(signal.SIGKILL)
        answered += server.stdout.read().split()
    async with open_store(path) as store:
        there = await store.read(names, None)
    assert {f"{int(number):06}" for number in answered} <= set(there)


def alter(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()
