"""`fleet ca restore` killed at any write: there is no home, or a whole one, and the next try succeeds."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.home import open_home
from fleet.ra.keeping.backup import Backup
from fleet.ra.keeping.restore import Restored
from tests.faults.test_initialise_crash import KILLED, Disk, is_whole
from tests.homes import make_home
from tests.keeping import Keeper, keeping

STEPS = 8
"""Places, evenly spread over all writes, beside the one in which the home gets its name."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is left of a fleet whose machine is gone."""

    backup: Backup
    trail: Path
    folder: Path


@asynccontextmanager
async def lost(folder: Path) -> AsyncIterator[tuple[Keeper, Kept]]:
    made = await asyncio.to_thread(make_home, folder / "made", now=datetime(2030, 6, 1, tzinfo=UTC))
    async with keeping(made, folder) as keeper:
        backup = keeper.back_up()
        await keeper.desk.enrolled("d1")
        yield keeper, Kept(backup=backup, trail=await keeper.keep_trail(), folder=keeper.elsewhere)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keeper, Kept]:
    async def make() -> tuple[Keeper, Kept]:
        async with lost(tmp_path_factory.mktemp("lost")) as found:
            return found

    return asyncio.run(make())


def restored(kept: tuple[Keeper, Kept], name: str) -> Restored:
    keeper, left = kept
    return asyncio.run(keeper.restore(left.backup, left.trail, name=name))


def test_a_process_killed_at_any_write_leaves_no_half_home(kept: tuple[Keeper, Kept]) -> None:
    place = kept[1].folder / "new"
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, fault=lambda _number, _name: None)
        restored(kept, "whole")
    for step in range(STEPS):
        at = 1 + step * (disk.count - 1) // (STEPS - 1)
        kill_child(kept, at)
        assert not place.exists() or is_whole(place)
        if place.exists():
            break
    if not place.exists():
        restored(kept, "new")
    assert open_home(place).root == place
    assert not list(place.parent.glob(".new.*"))


def kill_child(kept: tuple[Keeper, Kept], at: int) -> None:
    """Restore in a process of its own, which dies before its write number `at`."""
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                Disk(patch, fault=lambda number, _name: os._exit(KILLED) if number == at else None)
                restored(kept, "new")
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == KILLED
