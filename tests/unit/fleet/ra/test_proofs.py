"""Proofs from a trail that is damaged, cut, or not the one that somebody knew."""

from collections.abc import AsyncIterator

import pytest

from fleet.ca.signers import make_key, sign_message
from fleet.errors import NeedsAttentionError, NotFoundError, StoreError
from fleet.ports import Store, Transaction
from fleet.ra.people.proofs import Beginning, head, prove
from fleet.store import audit
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import memory_store
from tests.evidence import AT, SIZE, entry, signed_heads, trail_in


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    key = make_key()
    seal = AuditSeal(log="acme", sign=lambda message: sign_message(key, message), clock=lambda: AT)
    async with memory_store(seal=seal) as opened:
        for number in range(SIZE):
            await opened.write(audit.append, entry(number, "operator:ada"))
        yield opened


async def tamper(store: Store, sql: str) -> None:
    async def change(tx: Transaction, _: None) -> None:
        await tx.execute(sql)

    await store.write(change, None)


async def test_without_a_head_that_was_kept_a_proof_is_for_the_newest_one(store: Store) -> None:
    proof = await prove(trail_in(store, "acme"), number=3, beginning=None)
    assert proof.head == await head(store, "acme")
    assert (proof.earlier_size, proof.consistency) == (SIZE, ())


@pytest.mark.parametrize("page", [1, 2, 5])
async def test_leaves_that_are_read_in_pages_prove_the_same(
    store: Store, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    beginning = Beginning(size=6, root=(await signed_heads(store, "acme"))[5].head.root)
    whole = await prove(trail_in(store, "acme"), number=9, beginning=beginning)
    monkeypatch.setattr(audit, "MAX_PAGE", page)
    assert await prove(trail_in(store, "acme"), number=9, beginning=beginning) == whole


async def test_a_trail_in_which_nothing_is_signed_proves_nothing() -> None:
    async with memory_store() as empty:
        with pytest.raises(NotFoundError, match="no head"):
            await prove(trail_in(empty, "acme"), number=0, beginning=None)


@pytest.mark.parametrize("number", [SIZE, 2**60])
async def test_an_entry_that_is_not_there_has_no_proof(store: Store, number: int) -> None:
    with pytest.raises(NotFoundError, match="there is no entry"):
        await prove(trail_in(store, "acme"), number=number, beginning=None)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_entries SET actor = 'operator:eve' WHERE number = 3",
        "UPDATE audit_details SET value = 'else' WHERE number = 3",
        f"UPDATE audit_entries SET leaf_hash = '{'07' * 32}' WHERE number = 8",
    ],
)
async def test_a_trail_that_was_changed_proves_nothing(store: Store, sql: str) -> None:
    await tamper(store, sql)
    with pytest.raises(NeedsAttentionError, match="entry 3 is not what was signed"):
        await prove(trail_in(store, "acme"), number=3, beginning=None)


@pytest.mark.parametrize("number", [3, 7])
async def test_an_entry_that_was_deleted_is_missed(store: Store, number: int) -> None:
    for table in ("audit_details", "audit_entries"):
        await tamper(store, f"DELETE FROM {table} WHERE number = {number}")
    with pytest.raises((NeedsAttentionError, StoreError), match="missing"):
        await prove(trail_in(store, "acme"), number=3, beginning=None)


async def test_a_head_of_another_trail_is_not_carried_on(store: Store) -> None:
    for size in (1, 5, SIZE):
        with pytest.raises(NeedsAttentionError, match=f"does not begin with the {size} entries"):
            await prove(
                trail_in(store, "acme"), number=None, beginning=Beginning(size=size, root=b"\x07" * 32)
            )


async def test_a_head_over_more_than_there_is_tells_that_the_end_was_cut_off(store: Store) -> None:
    with pytest.raises(NeedsAttentionError, match="has 13 signed entries, and that head is over 14"):
        await prove(trail_in(store, "acme"), number=None, beginning=Beginning(size=14, root=b"\x07" * 32))
