"""The brokers' lists follow the store: changes in order, the whole set after any doubt."""

import asyncio
from collections.abc import Sequence

import pytest

from fleet.model import AllowlistChange, CutOff
from fleet.ra import issuing
from fleet.ra.allowlist import BrokerLink
from fleet.ra.keeping.housekeeping import tick
from fleet.store.allowlist import prune_changes, sequence, snapshot
from tests.desk import Desk


async def listed(desk: Desk) -> set[str]:
    return {entry.serial for entry in (await desk.context.store.read(snapshot, None)).entries}


async def test_a_broker_that_lost_its_place_gets_the_whole_list(desk: Desk) -> None:
    desk.broker.sequence = 999

    _, issued = await desk.enrolled("d1")

    assert issued.serial in desk.broker.listed
    assert desk.broker.listed.keys() == await listed(desk)


async def test_changes_that_were_pruned_are_followed_by_the_whole_list(desk: Desk) -> None:
    desk.broker.fails = True
    await desk.enrolled("d1")
    now = await desk.context.store.read(sequence, None)
    await desk.context.store.write(prune_changes, now)
    desk.broker.fails = False

    await desk.enrolled("d2")

    assert desk.broker.listed.keys() == await listed(desk)


async def test_what_is_reached_already_is_not_sent_again(desk: Desk) -> None:
    await desk.enrolled("d1")
    now = await desk.context.store.read(sequence, None)
    desk.broker.listed.clear()

    await desk.context.broker.reach(now)

    assert not desk.broker.listed


async def test_what_a_slow_broker_did_not_take_in_time_reaches_it_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_change: AllowlistChange) -> Sequence[CutOff]:
        await asyncio.Event().wait()
        return ()

    with monkeypatch.context() as patch:
        patch.setattr(issuing, "_REACH_SECONDS", 0)
        patch.setattr(desk.broker, "change", hang)
        _, issued = await desk.enrolled("d1")
    assert issued.serial not in desk.broker.listed

    await tick(desk.context)

    assert desk.broker.listed.keys() == await listed(desk)


async def test_a_snapshot_tells_whom_it_cut_off(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    desk.broker.connect(issued.serial)
    desk.broker.sequence = 999

    receipt = await desk.revoke("d1")

    assert [cut.name for cut in receipt.sessions] == ["prod:d1"]


async def test_without_a_broker_everything_is_reached_at_once(desk: Desk) -> None:
    alone = BrokerLink(desk.context.store, ())

    assert await alone.reach(10**9) == ()
    assert await alone.sessions() == ()
    assert await alone.stamp() == 0
    assert alone.age() is None
