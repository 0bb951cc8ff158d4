"""The ledger keeps what was made, through crashes and repeats, and gives an id to one unit only."""

import itertools
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import aiosqlite
import pytest

from fleet.errors import RefusedError, StorageFullError, StoreError
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import LIFE, UnitEvent, UnitState
from fleet.station.keeping.package import IssueOrder, Package, pack
from tests.factory_floor import Floor, MemoryUnit, fixed_clock

FLOOR = Floor()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[Ledger]:
    async with Ledger.opened(path, clock=fixed_clock, identity=FLOOR.identity) as opened:
        yield opened


async def made_for(csr: bytes) -> Package:
    order = IssueOrder(device_id="d1", hardware_id="hw-1", csr=csr)
    return pack(order, await replace(FLOOR.enroller, made={}, owners={}).issue(order))


async def issued(ledger: Ledger) -> Package:
    """Bring unit hw-1 to ISSUED."""
    csr = MemoryUnit().request("d1")
    await ledger.reserve("hw-1", device_id="d1", model="bench")
    await ledger.add_request("hw-1", csr)
    package = await made_for(csr)
    await ledger.add_package("hw-1", number=1, package=package)
    return package


async def asked(ledger: Ledger, sql: str, *parameters: str) -> tuple[object, ...]:
    """Return the first row of what only a test asks for."""
    row: tuple[object, ...] = await ledger._writer.run(lambda db: db.execute(sql, parameters).fetchone())
    return row


async def test_every_event_in_every_state_does_what_the_table_says(path: Path, ledger: Ledger) -> None:
    await issued(ledger)
    for state, event in itertools.product(UnitState, UnitEvent):
        await asked(ledger, "UPDATE generations SET state = ? RETURNING state", state)
        after = LIFE.get((state, event))
        with nullcontext() if after else pytest.raises(RefusedError):
            await ledger.record("hw-1", number=1, event=event)
        unit = await ledger.find("hw-1")
        assert unit is not None
        assert unit.state is (after or state), (state, event)


def test_what_is_revoked_stays_revoked() -> None:
    assert {after for (state, _), after in LIFE.items() if state is UnitState.REVOKED} == {UnitState.REVOKED}


def test_nothing_is_committed_that_was_not_proven() -> None:
    before = {state for (state, event), _ in LIFE.items() if event is UnitEvent.COMMITTED}
    assert UnitState.ISSUED not in before
    assert UnitState.RESERVED not in before


async def test_a_unit_is_found_as_it_was_kept(ledger: Ledger) -> None:
    package = await issued(ledger)
    unit = await ledger.find("hw-1")
    assert unit is not None
    assert (unit.device_id, unit.model, unit.doubt, unit.state) == ("d1", "bench", None, UnitState.ISSUED)
    assert unit.generations[0].package == package
    assert unit.with_fingerprint(package.fingerprint) == unit.generations[0]


async def test_an_unknown_unit_is_not_found(ledger: Ledger) -> None:
    assert await ledger.find("hw-9") is None


async def test_what_was_kept_is_there_after_the_station_started_again(path: Path) -> None:
    async with Ledger.opened(path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
        package = await issued(ledger)
    async with Ledger.opened(path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
        unit = await ledger.find("hw-1")
        assert unit is not None
        assert unit.generations[0].package == package


async def test_every_commit_is_on_the_disk(ledger: Ledger) -> None:
    settings = {}
    for pragma in ("journal_mode", "synchronous"):
        (settings[pragma],) = await asked(ledger, f"PRAGMA {pragma}")
    assert settings == {"journal_mode": "wal", "synchronous": 2}


async def test_the_file_is_its_owners_alone(path: Path, ledger: Ledger) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


async def test_an_id_goes_to_one_unit_only(ledger: Ledger) -> None:
    await ledger.reserve("hw-1", device_id="d1", model="")
    with pytest.raises(RefusedError, match="d1"):
        await ledger.reserve("hw-2", device_id="d1", model="")
    assert await ledger.find("hw-2") is None
    assert await ledger.owner_of("d1") == "hw-1"


async def test_a_unit_keeps_its_first_id(ledger: Ledger) -> None:
    await ledger.reserve("hw-1", device_id="d1", model="")
    await ledger.reserve("hw-1", device_id="d2", model="newer")
    unit = await ledger.find("hw-1")
    assert unit is not None
    assert (unit.device_id, unit.model) == ("d1", "newer")


async def test_numbers_of_a_prefix_are_given_once(ledger: Ledger) -> None:
    assert [await ledger.next_number("a-") for _ in range(3)] == [1, 2, 3]
    assert await ledger.next_number("b-") == 1


async def test_a_request_that_comes_again_makes_no_second_generation(ledger: Ledger) -> None:
    await ledger.reserve("hw-1", device_id="d1", model="")
    for csr in (b"one", b"one", b"two", b"one"):
        await ledger.add_request("hw-1", csr)
    unit = await ledger.find("hw-1")
    assert unit is not None
    assert [(one.number, one.csr) for one in unit.generations] == [(1, b"one"), (2, b"two")]


async def test_the_next_generation_revokes_those_before_it(ledger: Ledger) -> None:
    first = await issued(ledger)
    csr = MemoryUnit().request("d1")
    await ledger.add_request("hw-1", csr)
    await ledger.add_package("hw-1", number=2, package=await made_for(csr))
    unit = await ledger.find("hw-1")
    assert unit is not None
    assert [one.state for one in unit.generations] == [UnitState.REVOKED, UnitState.ISSUED]
    assert unit.generations[0].package == first


async def test_quarantine_keeps_its_first_reason_until_it_is_released(ledger: Ledger) -> None:
    await ledger.quarantine("hw-1", "first")
    await ledger.quarantine("hw-1", "second")
    unit = await ledger.find("hw-1")
    assert unit is not None
    assert unit.doubt == "first"
    await ledger.release("hw-1", by="operator:ada")
    unit = await ledger.find("hw-1")
    assert unit is not None
    assert unit.doubt is None


async def test_only_committed_units_wait_to_be_told(ledger: Ledger) -> None:
    package = await issued(ledger)
    assert await ledger.unsynced() == ()
    for event in (UnitEvent.PROVEN, UnitEvent.COMMITTED):
        await ledger.record("hw-1", number=1, event=event)
    assert await ledger.unsynced() == (("hw-1", 1, package.serial),)
    await ledger.record("hw-1", number=1, event=UnitEvent.SYNCED)
    assert await ledger.unsynced() == ()


async def test_a_step_that_fails_leaves_nothing_half_done(ledger: Ledger) -> None:
    await issued(ledger)
    await ledger.record("hw-1", number=1, event=UnitEvent.REPLACED)
    before = await ledger.units()
    with pytest.raises(RefusedError):
        await ledger.add_package("hw-1", number=1, package=await made_for(MemoryUnit().request("d1")))
    assert await ledger.units() == before


async def test_a_ledger_of_a_later_version_is_not_touched(path: Path) -> None:
    async with aiosqlite.connect(path) as connection:
        await connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="99"):
        async with Ledger.opened(path, clock=fixed_clock, identity=FLOOR.identity):
            pass


@pytest.mark.parametrize("content", [b"this is no database, not at all" * 40])
async def test_a_file_that_is_no_ledger_is_told(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match="ledger"):
        async with Ledger.opened(path, clock=fixed_clock, identity=FLOOR.identity):
            pass


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        async with Ledger.opened(tmp_path / "none" / "ledger.db", clock=fixed_clock, identity=FLOOR.identity):
            pass


async def test_no_open_file_is_left_behind(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with Ledger.opened(path, clock=fixed_clock, identity=FLOOR.identity):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_a_full_disk_is_told_and_nothing_is_half_done(ledger: Ledger) -> None:
    await issued(ledger)
    before = await ledger.units()
    await asked(ledger, "PRAGMA max_page_count = 1")
    with pytest.raises(StorageFullError):
        await ledger.add_request("hw-1", bytes(200_000))
    assert await ledger.units() == before
    await asked(ledger, "PRAGMA max_page_count = 100000")
    await ledger.add_request("hw-1", b"small")
