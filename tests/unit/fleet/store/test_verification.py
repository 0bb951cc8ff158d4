"""The audit trail is checked: whatever is done to a copy of it is found, and the entry is named."""

import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.audit import SignedHead, encode_entry
from fleet.core.merkle import leaf_hash
from fleet.errors import BadInputError, StoreError
from fleet.model import AuditEntry
from fleet.ports import Transaction, Value
from fleet.store import audit, seal, verification
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import SqliteStore, memory_store
from fleet.store.verification import Finding, Verdict, Verification

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
COMMITS = (1, 3, 1, 4, 2)
"""Entries of each commit: heads over 1, 4, 5, 9 and 11 entries."""
SIZE = sum(COMMITS)


def sign(message: bytes) -> bytes:
    """Sign with a key that only the server has; any signature scheme will do."""
    return hmac.digest(b"audit key", message, "sha256")


def is_signed(signature: bytes, message: bytes) -> bool:
    return hmac.compare_digest(signature, sign(message))


def entry(number: int) -> AuditEntry:
    details = (("reason", f"because {number}"), ("code", "c1"))
    return AuditEntry(
        at=NOW, action="device.registered", actor="operator:ada", device_id=f"d{number}", details=details
    )


@asynccontextmanager
async def trail() -> AsyncIterator[tuple[SqliteStore, SignedHead]]:
    """A trail of eleven entries under five heads, and the head that was kept outside."""
    async with memory_store(seal=AuditSeal(log="acme", sign=sign, clock=lambda: NOW)) as store:
        done = 0
        for count in COMMITS:
            await store.write(audit.append_many, [entry(done + number) for number in range(count)])
            done += count
        kept = await store.read(audit.newest_head, "acme")
        assert kept is not None
        yield store, kept


async def check(store: SqliteStore, kept: SignedHead | None) -> Verdict:
    against = Verification(log="acme", is_signed=is_signed, kept=kept)
    return await store.read(verification.verify, against)


async def tamper(tx: Transaction, statements: Sequence[tuple[str, Sequence[Value]]]) -> None:
    for sql, parameters in statements:
        await tx.execute(sql, parameters)


async def tampered(*statements: tuple[str, Sequence[Value]], kept: bool = True) -> tuple[Finding, ...]:
    async with trail() as (store, head):
        await store.write(tamper, [("PRAGMA defer_foreign_keys = ON", ()), *statements])
        return (await check(store, head if kept else None)).findings


async def test_an_untouched_trail_is_whole() -> None:
    async with trail() as (store, kept):
        verdict = await check(store, kept)
    assert verdict.is_whole
    assert (verdict.size, verdict.newest) == (SIZE, kept)
    assert verdict.heads == len(COMMITS) + 1


async def test_an_empty_trail_is_whole() -> None:
    async with memory_store() as store:
        assert (await check(store, None)).is_whole


@settings(max_examples=30)
@given(number=st.integers(0, SIZE - 1), column=st.sampled_from(("action", "actor", "device_id", "serial")))
async def test_an_entry_that_was_edited_is_named(number: int, column: str) -> None:
    found = await tampered((f"UPDATE audit_entries SET {column} = 'x' WHERE number = ?", (number,)))
    assert found == (Finding(first=number, last=number, text="changed: it is not what was recorded"),)


@given(number=st.integers(0, SIZE - 1))
async def test_a_detail_that_was_edited_added_or_removed_names_its_entry(number: int) -> None:
    for sql in (
        "UPDATE audit_details SET value = 'x' WHERE number = ? AND position = 1",
        "DELETE FROM audit_details WHERE number = ? AND position = 0",
        "INSERT INTO audit_details VALUES (?, 9, 'reason', 'x')",
    ):
        found = await tampered((sql, (number,)))
        assert found == (Finding(first=number, last=number, text="changed: it is not what was recorded"),)


@given(number=st.integers(0, SIZE - 1))
async def test_an_entry_that_was_edited_with_its_hash_is_found_under_its_head(number: int) -> None:
    forged = replace(entry(number), actor="operator:eve")
    leaf = leaf_hash(encode_entry(number, forged)).hex()
    sql = "UPDATE audit_entries SET actor = 'operator:eve', leaf_hash = ? WHERE number = ?"
    found = await tampered((sql, (leaf, number)))
    assert len(found) == 1
    assert found[0].first <= number <= found[0].last
    assert found[0].last + 1 in {1, 4, 5, 9, 11}
    assert "not those under the head" in found[0].text


@given(number=st.integers(0, SIZE - 2))
async def test_an_entry_that_was_deleted_is_named(number: int) -> None:
    found = await tampered(
        ("DELETE FROM audit_details WHERE number = ?", (number,)),
        ("DELETE FROM audit_entries WHERE number = ?", (number,)),
    )
    assert Finding(first=number, last=number, text="missing") in found


@given(number=st.integers(0, SIZE - 2))
async def test_an_entry_that_was_deleted_with_the_rest_moved_up_is_named(number: int) -> None:
    """Each is renumbered by itself: SQLite checks the primary key row by row."""
    moves = [
        (f"UPDATE {table} SET number = ? WHERE number = ?", (later - 1, later))
        for table in ("audit_entries", "audit_details")
        for later in range(number + 1, SIZE)
    ]
    found = await tampered(
        ("DELETE FROM audit_details WHERE number = ?", (number,)),
        ("DELETE FROM audit_entries WHERE number = ?", (number,)),
        *moves,
    )
    assert Finding(first=number, last=number, text="changed: it is not what was recorded") in found


@settings(max_examples=30)
@given(st.lists(st.integers(0, SIZE - 1), min_size=2, max_size=2, unique=True))
async def test_two_entries_that_were_swapped_are_both_named(places: list[int]) -> None:
    one, other = places
    swap = [
        (f"UPDATE {table} SET number = ? WHERE number = ?", (new, old))
        for table in ("audit_entries", "audit_details")
        for old, new in ((one, 99), (other, one), (99, other))
    ]
    found = await tampered(*swap)
    changed = {each.first for each in found if each.text.startswith("changed")}
    assert changed == {one, other}


@given(left=st.integers(0, SIZE - 1))
async def test_a_trail_that_was_cut_short_is_found_even_with_its_heads(left: int) -> None:
    cut = [
        ("DELETE FROM audit_details WHERE number >= ?", (left,)),
        ("DELETE FROM audit_entries WHERE number >= ?", (left,)),
    ]
    expected = Finding(first=left, last=SIZE - 1, text="missing: a signed head covers them")
    assert expected in await tampered(*cut, kept=False)
    assert expected in await tampered(*cut, ("DELETE FROM audit_heads WHERE size > ?", (left,)))


async def test_entries_that_were_added_without_a_head_are_found() -> None:
    async with trail() as (store, kept):
        store._sealing = None  # an intruder has the database, and not the key
        await store.write(audit.append, entry(SIZE))
        verdict = await check(store, kept)
    assert verdict.findings == (Finding(first=SIZE, last=SIZE, text="under no signed head"),)


async def test_a_head_that_the_audit_key_did_not_sign_is_found() -> None:
    found = await tampered(("UPDATE audit_heads SET signature = ? WHERE size = 5", (b"forged",)))
    assert [each.text for each in found] == ["under a head over 5 entries that the audit key did not sign"]


async def test_a_head_of_another_fleet_is_no_head() -> None:
    async with trail() as (store, kept):
        stranger = replace(kept, head=replace(kept.head, log="other"))
        verdict = await check(store, stranger)
    assert [each.text for each in verdict.findings] == [
        f"under a head over {SIZE} entries that the audit key did not sign"
    ]


async def test_a_tree_that_would_be_continued_from_elsewhere_is_found() -> None:
    found = await tampered(("UPDATE audit_peaks SET hash = ? WHERE level = 0", ("00" * 32,)))
    assert [each.text for each in found] == ["not what the tree is continued from"]


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01T00:00:00Z", b"\xff", 7])
async def test_an_entry_that_cannot_be_read_any_more_is_named(value: Value) -> None:
    found = await tampered(("UPDATE audit_entries SET at = ? WHERE number = 3", (value,)))
    assert found[0] == Finding(first=3, last=3, text="damaged: it cannot be read")


async def test_a_key_that_does_not_sign_commits_nothing() -> None:
    def broken(_message: bytes) -> bytes:
        raise ValueError("the key is gone")

    async with memory_store(seal=AuditSeal(log="acme", sign=broken, clock=lambda: NOW)) as store:
        with pytest.raises(StoreError, match="the audit key does not sign"):
            await store.write(audit.append, entry(0))
        assert await store.read(audit.page, -1) == ()


async def test_the_head_outside_is_written_at_the_end_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "head.json"
    sealing = AuditSeal(log="acme", sign=sign, clock=lambda: NOW, head_file=file)
    async with memory_store(seal=sealing) as store:
        await store.write(audit.append, entry(0))
    head = seal.read_head(file)
    assert head is not None
    assert (head.head.log, head.head.size) == ("acme", 1)
    assert is_signed(head.signature, head.head.message())
    assert file.stat().st_mode & 0o777 == 0o600


def test_where_no_head_was_kept_there_is_none(tmp_path: Path) -> None:
    assert seal.read_head(tmp_path / "head.json") is None


@given(st.binary(max_size=300))
def test_a_damaged_head_file_is_refused_and_nothing_else_happens(content: bytes) -> None:
    with pytest.raises(BadInputError, match="the audit head is damaged"):
        seal.parse_head(content)
