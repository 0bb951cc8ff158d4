"""The connection history: what brokers see is kept in batches, with what is on record, while it is wanted."""

import asyncio
from datetime import timedelta

import pytest

from fleet.core.causes import Cause
from fleet.core.history import contact
from fleet.errors import StorageFullError
from fleet.model import BrokerEvent, BrokerEventKind
from fleet.ports import Store
from fleet.ra import history as keeping
from fleet.ra.history import MOST_WAITING, History, contact_of, flush, keep_history, prune
from fleet.retention_sections import RetentionConfig
from fleet.store import contacts
from fleet.store.certificates import load_certificate
from fleet.store.contacts import ContactQuery, StoredContact
from tests.desk import NOON, Desk
from tests.waiting import until

REFUSED, CONNECTED = BrokerEventKind.REFUSED, BrokerEventKind.CONNECTED


def refused(
    number: int, *, name: str = "", cause: Cause = Cause.UNKNOWN_CA, minutes: int = 0
) -> keeping.Contact:
    return contact(
        kind=REFUSED,
        place="mosquitto",
        at=NOON + timedelta(minutes=minutes),
        cause=cause,
        name=name,
        address=f"10.0.0.{number}",
    )


async def found(store: Store, query: ContactQuery | None = None) -> tuple[StoredContact, ...]:
    return await store.read(contacts.search, query or ContactQuery())


async def keep(store: Store, *some: keeping.Contact) -> None:
    history = History()
    for one in some:
        history.note(one)
    await flush(store, history)


async def test_what_a_broker_tells_is_kept_with_its_device(desk: Desk) -> None:
    _, issued = await desk.enrolled("seen-1")
    await desk.happens(CONNECTED, issued.serial, stamp=1)
    await flush(desk.context.store, desk.context.history)
    (row,) = await found(desk.context.store, ContactQuery(device_id="seen-1"))
    one = row.contact
    assert (one.kind, one.domain, one.serial, one.name) == (CONNECTED, "prod", issued.serial, "prod:seen-1")
    assert one.place == desk.context.driver


async def test_a_refusal_is_told_with_what_became_of_the_certificate(desk: Desk) -> None:
    _, issued = await desk.enrolled("seen-2")
    await desk.revoke("seen-2")
    row = await desk.context.store.read(load_certificate, issued.serial)
    assert row is not None
    event = BrokerEvent(
        kind=REFUSED, stamp=1, issuer=row.issuer, serial=issued.serial, reason="unlisted", at=NOON
    )
    await keep(desk.context.store, contact_of(event, place="mosquitto"))
    (kept,) = await found(desk.context.store, ContactQuery(device_id="seen-2", kind=REFUSED))
    assert kept.contact.cause is Cause.REVOKED


async def test_repeats_are_one_row_for_some_minutes_and_another_one_later(desk: Desk) -> None:
    store = desk.context.store
    for minutes in (0, 1, 2, 30):
        await keep(store, refused(1, minutes=minutes))
    late, early = await found(store)
    assert (early.contact.times, late.contact.times) == (3, 1)
    assert early.contact.last_at == NOON + timedelta(minutes=2)


async def test_what_a_log_tells_late_moves_no_row_back_in_time(desk: Desk) -> None:
    store = desk.context.store
    for minutes in (5, 0):
        await keep(store, refused(1, minutes=minutes))
    (row,) = await found(store)
    assert (row.contact.first_at, row.contact.last_at) == (NOON, NOON + timedelta(minutes=5))
    assert row.contact.times == 2


async def test_the_history_is_found_by_network_cause_and_time_page_by_page(desk: Desk) -> None:
    store = desk.context.store
    await keep(store, *(refused(number, minutes=number) for number in range(1, 8)))
    await keep(store, refused(200, cause=Cause.EXPIRED, minutes=60))
    network = keeping.contacts.ContactQuery(network=("0" * 20 + "ffff0a000000", "0" * 20 + "ffff0a0000ff"))
    assert len(await found(store, network)) == 8
    assert [row.contact.cause for row in await found(store, ContactQuery(cause="expired"))] == [Cause.EXPIRED]
    since = ContactQuery(since=NOON + timedelta(minutes=6), until=NOON + timedelta(minutes=10))
    assert len(await found(store, since)) == 2
    first = await found(store, ContactQuery(limit=3))
    second = await found(store, ContactQuery(limit=100, before=first[-1].number))
    assert len(first) + len(second) == 8
    assert {row.number for row in first}.isdisjoint(row.number for row in second)


async def test_old_rows_and_those_beyond_a_devices_number_go(desk: Desk) -> None:
    store = desk.context.store
    await keep(store, *(refused(n, name="prod:d1", minutes=11 * n) for n in range(7)))
    await keep(store, *(refused(n, minutes=11 * n) for n in range(7)))
    rules = RetentionConfig(connections_days=1, connections_per_device=3)
    assert await prune(store, rules, now=NOON + timedelta(hours=2)) == 4
    assert len(await found(store, ContactQuery(device_id="d1"))) == 3
    assert await prune(store, rules, now=NOON + timedelta(days=1, minutes=60)) > 0
    left = await found(store)
    assert all(row.contact.last_at >= NOON + timedelta(minutes=60) for row in left)


def test_what_waits_is_bounded_and_what_is_beyond_is_counted() -> None:
    history = History()
    for number in range(MOST_WAITING + 5):
        history.note(refused(number % 200))
    assert (len(history.take()), history.lost, history.take()) == (MOST_WAITING, 5, ())


async def test_what_waits_when_the_server_stops_is_kept(desk: Desk) -> None:
    store, history = desk.context.store, History()
    task = asyncio.ensure_future(
        keep_history(store, history, clock=desk.context.clock, retention=RetentionConfig)
    )
    await asyncio.sleep(0)
    history.note(refused(1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await found(store)) == 1


async def test_a_full_disk_loses_what_was_seen_and_stops_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: object) -> None:
        raise StorageFullError("the disk is full")

    monkeypatch.setattr(contacts, "keep", full)
    monkeypatch.setattr(keeping, "BATCH_SECONDS", 0)
    history = History()
    history.note(refused(1))
    task = asyncio.ensure_future(
        keep_history(desk.context.store, history, clock=desk.context.clock, retention=RetentionConfig)
    )
    await until(lambda: "could not be kept" in caplog.text)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
