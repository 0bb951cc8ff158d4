"""What every store promises (`fleet.ports.Store`), whichever database is behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from fleet.errors import BadInputError, RefusedError, StoreError
from fleet.ports import Store, Transaction
from fleet.store import sqlite
from fleet.store.connections import Sealing
from fleet.store.sqlite import create_store, memory_store, open_store

Opener: TypeAlias = Callable[[Sealing | None], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def file_store(path: Path, seal: Sealing | None) -> AsyncIterator[Store]:
    opener = open_store if path.exists() else create_store
    async with opener(path, seal=seal) as store:
        yield store


@pytest.fixture(params=["sqlite-file", "sqlite-memory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Every adapter, as a function that opens it; another database is one more line."""
    openers: dict[str, Opener] = {
        "sqlite-file": lambda seal: file_store(tmp_path / "fleet.db", seal),
        "sqlite-memory": lambda seal: memory_store(seal=seal),
    }
    return openers[request.param]


@pytest.fixture(params=["sqlite-file"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """The adapters that keep what they hold."""
    return {"sqlite-file": lambda seal: file_store(tmp_path / "fleet.db", seal)}[request.param]


async def put(tx: Transaction, fact: tuple[str, str]) -> str:
    await tx.execute("INSERT INTO meta (name, value) VALUES (?, ?)", fact)
    return fact[0]


async def put_then_refuse(tx: Transaction, fact: tuple[str, str]) -> None:
    await put(tx, fact)
    raise RefusedError(f"no {fact[0]}")


async def names(tx: Transaction, _argument: None) -> list[str]:
    return [str(name) for (name,) in await tx.fetch_all("SELECT name FROM meta ORDER BY name")]


async def count_up(tx: Transaction, _argument: int) -> int:
    row = await tx.fetch_one("SELECT value FROM meta WHERE name = 'count'")
    value = 1 if row is None else int(str(row[0])) + 1
    await tx.execute("DELETE FROM meta WHERE name = 'count'")
    await put(tx, ("count", str(value)))
    return value


async def take(tx: Transaction, taker: str) -> bool:
    """Take what can be taken once: look first, then write."""
    if await tx.fetch_one("SELECT 1 FROM meta WHERE name = 'taken'") is not None:
        return False
    await put(tx, ("taken", taker))
    return True


async def sleep(_tx: Transaction, _argument: None) -> None:
    await asyncio.sleep(0)


class CountingSeal:
    """Counts commits; fails those it is told to."""

    def __init__(self) -> None:
        self.commits = 0
        self.fails = False

    async def sign(self, _tx: Transaction) -> None:
        if self.fails:
            raise StoreError("the audit key does not sign")

    def committed(self) -> None:
        self.commits += 1

    def keep(self) -> None:
        pass


async def test_what_was_written_can_be_read(opened: Opener) -> None:
    async with opened(None) as store:
        assert await store.write(put, ("a", "1")) == "a"
        assert await store.read(names, None) == ["a"]


async def test_what_was_written_is_there_after_it_was_closed(kept: Opener) -> None:
    async with kept(None) as store:
        await store.write(put, ("a", "1"))
    async with kept(None) as store:
        assert await store.read(names, None) == ["a"]


async def test_a_unit_that_raises_is_undone_alone_and_its_error_comes_back(opened: Opener) -> None:
    async with opened(None) as store:
        results = await asyncio.gather(
            store.write(put, ("a", "1")),
            store.write(put_then_refuse, ("b", "2")),
            store.write(put, ("c", "3")),
            return_exceptions=True,
        )
        assert [str(result) for result in results] == ["a", "no b", "c"]
        assert isinstance(results[1], RefusedError)
        assert await store.read(names, None) == ["a", "c"]


async def test_units_are_judged_one_after_another_in_the_order_they_came(opened: Opener) -> None:
    async with opened(None) as store:
        results = await asyncio.gather(*(store.write(count_up, turn) for turn in range(300)))
        assert results == list(range(1, 301))


async def test_many_units_share_a_commit(opened: Opener) -> None:
    seal = CountingSeal()
    async with opened(seal) as store:
        before = seal.commits
        await asyncio.gather(*(store.write(count_up, turn) for turn in range(200)))
        assert seal.commits - before < 20


async def test_of_many_who_take_a_thing_at_once_exactly_one_has_it(opened: Opener) -> None:
    async with opened(None) as store:
        results = await asyncio.gather(*(store.write(take, str(taker)) for taker in range(50)))
        assert results.count(True) == 1


async def test_when_the_commit_fails_every_unit_of_it_fails_and_nothing_is_kept(opened: Opener) -> None:
    seal = CountingSeal()
    async with opened(seal) as store:
        await store.write(put, ("a", "1"))
        seal.fails = True
        results = await asyncio.gather(
            *(store.write(put, (name, "1")) for name in "bcd"), return_exceptions=True
        )
        assert [type(result) for result in results] == [StoreError] * 3
        seal.fails = False
        await store.write(put, ("e", "1"))
        assert await store.read(names, None) == ["a", "e"]


async def test_a_reader_sees_what_was_committed_and_may_not_write(opened: Opener) -> None:
    async with opened(None) as store:
        await store.write(put, ("a", "1"))
        one, other = await asyncio.gather(store.read(names, None), store.read(names, None))
        assert one == other == ["a"]
        await asyncio.gather(store.read(put, ("b", "1")), return_exceptions=True)
        assert await store.read(names, None) == ["a"]


async def count_for_ever(tx: Transaction, _argument: None) -> None:
    await tx.fetch_all(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)"
        " SELECT count(*) FROM n"
    )


async def test_a_search_sees_what_was_committed_and_ends_where_it_takes_too_long(
    kept: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "SEARCH_WITHIN", timedelta(seconds=0.1))
    async with kept(None) as store:
        await store.write(put, ("a", "1"))
        assert await store.search(names, None) == ["a"]
        with pytest.raises(BadInputError, match="takes longer than"):
            await store.search(count_for_ever, None)
        assert await store.search(names, None) == ["a"]
        assert await store.read(names, None) == ["a"]


async def test_searches_leave_readers_for_everybody_else(
    kept: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "SEARCH_WITHIN", timedelta(seconds=2))
    async with kept(None) as store:
        await store.write(put, ("a", "1"))
        searches = [asyncio.create_task(store.search(count_for_ever, None)) for _ in range(2)]
        await asyncio.sleep(0)
        assert await store.read(names, None) == ["a"]
        assert not any(search.done() for search in searches)
        await asyncio.gather(*searches, return_exceptions=True)


async def test_a_unit_may_await_nothing_but_its_transaction(opened: Opener) -> None:
    async with opened(None) as store:
        with pytest.raises(StoreError, match="outside of its transaction"):
            await store.write(sleep, None)
        assert await store.write(put, ("a", "1")) == "a"


async def test_a_statement_that_is_wrong_fails_its_unit_only(opened: Opener) -> None:
    async with opened(None) as store:
        await store.write(put, ("a", "1"))
        with pytest.raises(StoreError, match="refused a statement"):
            await store.write(put, ("a", "2"))
        assert await store.write(put, ("b", "1")) == "b"


async def test_a_caller_who_gave_up_leaves_the_others_their_results(opened: Opener) -> None:
    async with opened(None) as store:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await store.write(put, ("a", "1"))
        assert await store.write(put, ("b", "1")) == "b"
        assert "b" in await store.read(names, None)


async def test_closing_finishes_what_was_handed_in_and_takes_no_more(opened: Opener) -> None:
    async with opened(None) as store:
        *results, _ = await asyncio.gather(
            *(store.write(count_up, turn) for turn in range(20)), store.close()
        )
        assert results == list(range(1, 21))
        with pytest.raises(StoreError, match="the store is closed"):
            await store.write(put, ("a", "1"))


async def test_an_error_of_whoever_uses_the_store_comes_out_as_it_is(opened: Opener) -> None:
    with pytest.raises(RefusedError, match="mine"):
        async with opened(None):
            raise RefusedError("mine")
