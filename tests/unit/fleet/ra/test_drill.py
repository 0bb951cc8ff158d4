"""A drill tells whether a backup brings the fleet back, and leaves nothing behind either way."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.ca.hierarchy import Authority
from fleet.ca.loading import load_authority
from fleet.home import Home
from fleet.ports import Store
from fleet.ra.keeping.drill import DrillOrder, DrillReport, drill
from fleet.store.authorities import list_authorities
from fleet.store.sqlite import open_store
from tests.homes import FleetHome, key_ring
from tests.keeping import Keeper, keeping


@dataclass(frozen=True, kw_only=True)
class Opened:
    store: Store
    authority: Authority


@asynccontextmanager
async def opened(home: Home) -> AsyncIterator[Opened]:
    """Open a home as the service does: every key answers."""
    async with open_store(home.database) as store:
        records = await store.read(list_authorities, None)
        authority = load_authority(home, fleet="acme", keys=key_ring(home), records=records)
        authority.unlock()
        yield Opened(store=store, authority=authority)


@pytest.fixture
async def keeper(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Keeper]:
    async with keeping(fleet_home, tmp_path) as found:
        yield found


async def drilled(keeper: Keeper) -> DrillReport:
    whole = (await keeper.keep_trail()).read_text().splitlines()

    def export(path: Path, first: int) -> None:
        lines = [line for line in whole if json.loads(line).get("number", first) >= first]
        path.write_text("\n".join(lines) + "\n")

    order = DrillOrder(
        home=keeper.home,
        clock=keeper.desk.clock,
        randomness=os.urandom,
        open_home=opened,
        export=export,
    )
    return await drill(order)


def left_behind(keeper: Keeper) -> list[str]:
    return [path.name for path in keeper.home.run.iterdir() if path.name in {"drill", "backup"}]


async def test_a_whole_home_comes_back_and_signs(keeper: Keeper) -> None:
    await keeper.desk.enrolled("d1")
    report = await drilled(keeper)
    assert [(step.step, step.ok) for step in report.steps] == [
        ("back up", True),
        ("check the file", True),
        ("restore", True),
        ("compare the records", True),
        ("start it", True),
    ]
    assert "7 issuing keys sign, 2 test leaves are good" in report.steps[-1].text
    assert report.passed
    assert left_behind(keeper) == []


async def test_a_key_that_is_gone_is_found_before_it_is_needed(keeper: Keeper) -> None:
    keeper.home.authority_files("prod/device-1").ca.key.unlink()
    report = await drilled(keeper)
    assert (report.passed, report.steps[-1].step) == (False, "start it")
    assert "ca.key" in report.steps[-1].text
    assert left_behind(keeper) == []


async def test_a_trail_that_was_tampered_with_is_found(keeper: Keeper) -> None:
    await keeper.desk.enrolled("d1")
    await keeper.desk.context.store.write(tamper, None)
    report = await drilled(keeper)
    assert (report.passed, report.steps[-1].step) == (False, "restore")
    assert "was changed" in report.steps[-1].text


async def tamper(tx: object, _argument: None) -> None:
    await tx.execute("UPDATE audit_entries SET actor = 'eve' WHERE number = 3")  # type: ignore[attr-defined]  # a transaction


async def test_nothing_of_a_drill_is_on_record(keeper: Keeper) -> None:
    before = keeper.back_up("before").manifest.rows
    await drilled(keeper)
    assert keeper.back_up("after").manifest.rows == before
