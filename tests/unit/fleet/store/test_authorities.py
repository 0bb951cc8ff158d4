"""CAs on record, and those of a database that is older than such records."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.core.authority import AuthorityRecord, AuthorityState, KeyKind
from fleet.errors import StoreError
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.store.authorities import (
    LeavesQuery,
    insert_authorities,
    insert_authority,
    leaves_of,
    list_authorities,
    load_authority_record,
    save_authority,
    state_of,
)
from fleet.store.migrate import known_migrations
from fleet.store.sqlite import SqliteStore, memory_store

NOON = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
ROOT = AuthorityRecord(
    folder="prod",
    issuer="aa" * 20,
    realm="prod",
    purpose=Purpose.AUTHORITY,
    state=AuthorityState.ACTIVE,
    key=KeyKind.ELSEWHERE,
    added_at=NOON,
    changed_at=NOON,
)
FIRST = replace(
    ROOT, folder="prod/device-1", issuer="bb" * 20, purpose=Purpose.DEVICE, key=KeyKind.TOKEN, room=7
)


async def saved(store: SqliteStore, *records: AuthorityRecord) -> tuple[AuthorityRecord, ...]:
    await store.write(insert_authorities, records)
    return await store.read(list_authorities, None)


async def test_what_is_recorded_is_read_again_in_order() -> None:
    tenth, second = [replace(FIRST, folder=f"prod/device-{n}", issuer=f"{n:040x}") for n in (10, 2)]
    async with memory_store() as store:
        assert await saved(store, tenth, FIRST, second, ROOT) == (ROOT, FIRST, second, tenth)
        assert await store.read(load_authority_record, FIRST.issuer) == FIRST
        assert await store.read(load_authority_record, "ff" * 20) is None
        assert await store.read(state_of, FIRST.issuer) == (AuthorityState.ACTIVE, 7)
        assert await store.read(state_of, "ff" * 20) is None


async def test_what_becomes_of_a_ca_is_recorded_and_its_place_stays() -> None:
    later = replace(
        FIRST, state=AuthorityState.RETIRED, issuer="cc" * 20, changed_at=NOON + timedelta(days=1)
    )
    async with memory_store() as store:
        await saved(store, FIRST)
        await store.write(save_authority, later)
        assert await store.read(list_authorities, None) == (later,)


@pytest.mark.parametrize("twin", [replace(FIRST, issuer="cc" * 20), replace(FIRST, folder="prod/device-2")])
async def test_neither_a_folder_nor_an_issuer_is_recorded_twice(twin: AuthorityRecord) -> None:
    async with memory_store() as store:
        await saved(store, FIRST)
        with pytest.raises(StoreError):
            await store.write(insert_authority, twin)


async def test_leaves_that_were_issued_before_there_were_records_are_counted() -> None:
    (script,) = [one for one in known_migrations() if one.name == "authorities"]
    counting = script.statements()[-1]

    async def count_again(tx: Transaction, _argument: None) -> None:
        for serial, purpose, end in (
            ("01", "device", "2030-07-01T00:00:00Z"),
            ("02", "device", "2030-07-01T09:00:00Z"),
            ("03", "device", "2030-05-01T00:00:00Z"),
            ("04", "signer", "2030-07-01T00:00:00Z"),
            ("05", "device", None),
        ):
            await tx.execute(
                "INSERT INTO certificates (serial, purpose, name, key_hash, state, issuer, not_after,"
                " created_at, changed_at) VALUES (?, ?, 'n', 'k', 'active', 'bb', ?, 't', 't')",
                (serial, purpose, end),
            )
        await tx.execute(counting)

    async with memory_store() as store:
        await store.write(count_again, None)
        assert await store.read(leaves_of, LeavesQuery(issuer="bb", now=NOON)) == 2
        assert await store.read(leaves_of, LeavesQuery(issuer="bb", now=NOON - timedelta(days=60))) == 3
