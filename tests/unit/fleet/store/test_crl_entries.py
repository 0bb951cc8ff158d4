"""What lists are made of: entries by part and by change, and the turns in which complete lists are made."""

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.revocation import encode_entry, encode_removal
from fleet.model import RevocationReason
from fleet.ports import Store, Transaction
from fleet.store.crl_entries import (
    ChangeQuery,
    ShardQuery,
    Turn,
    TurnOrder,
    changes_since,
    entries_in,
    note_turn,
    take_turn,
)
from fleet.store.migrate import Migration, known_migrations
from fleet.store.sqlite import memory_store
from fleet.store.status_urls import StatusUrl, note_status_url, status_urls

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HALF = timedelta(hours=12)
ISSUER = "ab" * 20


async def turn(store: Store, at: datetime, *, interval: timedelta | None = HALF) -> Turn:
    """Make a list that holds nothing."""
    taken = await store.write(take_turn, TurnOrder(issuer=ISSUER, at=at, interval=interval))
    if taken.is_due:
        await store.write(note_turn, taken)
    return taken


async def test_the_first_list_is_its_own_base() -> None:
    async with memory_store() as store:
        first = await turn(store, NOW)
    assert (first.base_number, first.ends_from) == (first.number, NOW)


async def test_a_delta_starts_from_the_turn_before_the_newest() -> None:
    async with memory_store() as store:
        first = await turn(store, NOW)
        between = await turn(store, NOW + HALF / 2)
        second = await turn(store, NOW + HALF)
        third = await turn(store, NOW + 2 * HALF)
    assert [one.base_number for one in (between, second, third)] == [
        first.number,
        first.number,
        second.number,
    ]
    assert third.ends_from == NOW + HALF


async def test_a_list_that_could_not_be_made_is_the_base_of_none() -> None:
    async with memory_store() as store:
        first = await turn(store, NOW)
        await store.write(take_turn, TurnOrder(issuer=ISSUER, at=NOW + HALF, interval=HALF))
        second = await turn(store, NOW + HALF + timedelta(minutes=1))
    assert second.base_number == first.number


async def test_a_list_beside_the_complete_one_takes_no_turn() -> None:
    async with memory_store() as store:
        first = await turn(store, NOW)
        beside = await turn(store, NOW + 3 * HALF, interval=None)
        second = await turn(store, NOW + 3 * HALF)
    assert beside.number > first.number
    assert (beside.base_number, second.base_number) == (first.number, first.number)


async def test_after_the_clock_was_set_back_nothing_that_is_valid_by_it_leaves() -> None:
    async with memory_store() as store:
        await turn(store, NOW)
        await turn(store, NOW + HALF)
        back = await turn(store, NOW - timedelta(days=30))
    assert back.ends_from == NOW - timedelta(days=30)


@settings(max_examples=30)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=2, max_size=8))
def test_numbers_grow_however_the_clock_jumps(jumps: list[int]) -> None:
    async def taken() -> list[int]:
        async with memory_store() as store:
            return [(await turn(store, NOW + timedelta(seconds=jump))).number for jump in jumps]

    numbers = asyncio.run(taken())
    assert numbers == sorted(set(numbers))


async def test_entries_come_by_part_and_those_of_the_past_are_left_out() -> None:
    async with memory_store() as store:
        await store.write(_put, (("41" * 14 + "0000", NOW), ("41" * 14 + "8000", NOW - timedelta(seconds=1))))
        everything = ShardQuery(issuer=ISSUER, first="0000", last="ffff", ends_from=NOW - HALF)
        lower = ShardQuery(issuer=ISSUER, first="0000", last="7fff", ends_from=NOW - HALF)
        valid = ShardQuery(issuer=ISSUER, first="0000", last="ffff", ends_from=NOW)
        other = ShardQuery(issuer="cd" * 20, first="0000", last="ffff", ends_from=NOW - HALF)
        counts = [(await store.read(entries_in, query)).count for query in (everything, lower, valid, other)]
    assert counts == [2, 1, 1, 0]


async def _put(tx: Transaction, rows: tuple[tuple[str, datetime], ...]) -> None:
    for serial, ends in rows:
        entry = encode_entry(serial, NOW, RevocationReason.SUPERSEDED)
        await tx.execute(
            "INSERT INTO revocations"
            " (issuer, serial, revoked_at, reason, for_cause, not_after, entry, shard, since)"
            " VALUES (?, ?, '2026-01-01T00:00:00Z', 'superseded', 0, ?, ?, ?, 5)",
            (ISSUER, serial, ends.strftime("%Y-%m-%dT%H:%M:%SZ"), entry, serial[-4:]),
        )


@pytest.mark.parametrize(("since", "told"), [(4, True), (5, True), (6, False)])
async def test_a_change_is_told_from_the_list_on_that_may_miss_it(since: int, told: bool) -> None:
    async with memory_store() as store:
        await store.write(_put, (("41" * 16, NOW),))
        await store.write(_released, "42" * 16)
        query = ChangeQuery(issuer=ISSUER, since=since, ends_from=NOW)
        found = await store.read(changes_since, query)
    expected = encode_entry("41" * 16, NOW, RevocationReason.SUPERSEDED) + encode_removal("42" * 16, NOW)
    assert found.der == (expected if told else b"")


async def _released(tx: Transaction, serial: str) -> None:
    await tx.execute(
        "INSERT INTO holds (issuer, serial, held_at, ended_at, released, since)"
        " VALUES (?, ?, '2026-04-01T00:00:00Z', '2026-05-01T12:00:00Z', 1, 5)",
        (ISSUER, serial),
    )


def test_a_database_of_before_gets_its_entries_into_their_parts() -> None:
    scripts = known_migrations()
    before = next(place for place, script in enumerate(scripts) if script.name == "status")
    database = sqlite3.connect(":memory:")
    run(database, scripts[:before])
    database.execute(
        "INSERT INTO revocations (issuer, serial, revoked_at, reason, for_cause, entry)"
        " VALUES ('ab', ?, '2026-01-01T00:00:00Z', 'superseded', 0, x'30')",
        ("41" * 14 + "beef",),
    )
    run(database, scripts[before:])
    assert database.execute("SELECT shard, since FROM revocations").fetchall() == [("beef", 0)]


def run(database: sqlite3.Connection, scripts: Sequence[Migration]) -> None:
    for script in scripts:
        for statement in script.statements():
            database.execute(statement)


async def test_the_newest_addresses_come_first_and_the_oldest_are_forgotten() -> None:
    async with memory_store() as store:
        for number in range(10):
            noted = StatusUrl(url=f"http://{number}.example", at=NOW + timedelta(days=number))
            await store.write(note_status_url, noted)
        again = StatusUrl(url="http://0.example", at=NOW + timedelta(days=10))
        await store.write(note_status_url, again)
        found = await store.read(status_urls, None)
    assert found == tuple(f"http://{number}.example" for number in (0, 9, 8, 7, 6, 5, 4, 3))
