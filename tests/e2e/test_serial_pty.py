"""The factory line over real ttys: the station on one side, the device's serial channel on the other."""

import asyncio
import os
import sqlite3
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.channels.serial import SerialOptions, serve_station
from device_agent.core.station_link import Committed
from device_agent.errors import ChannelError
from fleet.errors import BadInputError, StorageFullError
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitState
from fleet.station.link.cable import Cable
from fleet.station.link.causes import Cause
from fleet.station.making.ids import IdRule
from fleet.station.runner import Station
from fleet.station.telling.book import Book, Job
from fleet.station.telling.book import Kind as BookKind
from fleet.station.telling.events import LaneEvent, Stage
from fleet.station.telling.outlets import Outlets
from fleet.station.telling.result_file import ResultFile
from tests.factory_floor import Floor, MemoryUnit, fixed_clock, utc_now

FLOOR = Floor()
PATIENCE = timedelta(seconds=60)


@dataclass
class Watch:
    """Collects what a station reports, and lets a test wait for it."""

    events: list[LaneEvent] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, event: LaneEvent) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, seen: Callable[[LaneEvent], bool]) -> LaneEvent:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while True:
                for event in self.events:
                    if seen(event):
                        return event
                self._news.clear()
                await self._news.wait()

    async def stage(self, stage: Stage, *, hardware_id: str = "") -> LaneEvent:
        return await self.until(
            lambda event: event.stage is stage and (not hardware_id or event.hardware_id == hardware_id)
        )


@dataclass
class Running:
    """A station at work."""

    watch: Watch
    ledger: Ledger
    floor: Floor


@asynccontextmanager
async def station(tmp_path: Path, *ports: str) -> AsyncIterator[Running]:
    floor, watch = Floor(), Watch()
    async with Ledger.opened(tmp_path / "ledger.db", clock=fixed_clock, identity=FLOOR.identity) as ledger:
        runner = Station(
            identity=floor.identity, ledger=ledger, enroller=floor.enroller, ids=IdRule(prefix="line3-")
        )
        task = asyncio.ensure_future(runner.run(ports, report=watch))
        try:
            yield Running(watch=watch, ledger=ledger, floor=floor)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def plug_in(unit: MemoryUnit, port: str) -> Committed:
    return await serve_station(port, unit, clock=utc_now, options=SerialOptions(timeout=PATIENCE))


async def test_a_unit_that_is_plugged_in_is_made_without_a_key_press(tmp_path: Path) -> None:
    with Cable() as cable:
        async with station(tmp_path, cable.station_port) as running:
            await running.watch.stage(Stage.WAITING)
            unit = MemoryUnit(anchors=(running.floor.anchor,))
            committed = await plug_in(unit, cable.device_port)
            event = await running.watch.stage(Stage.SYNCED)
    assert unit.active is not None
    assert committed.fingerprint == unit.active.fingerprint
    assert (committed.station, committed.tofu) == ("line-3", False)
    assert (event.hardware_id, event.device_id, event.detail) == ("hw-1", "line3-0001", "")
    assert running.floor.enroller.confirmed == [event.serial]


async def test_progress_is_told_stage_by_stage(tmp_path: Path) -> None:
    with Cable() as cable:
        async with station(tmp_path, cable.station_port) as running:
            await plug_in(MemoryUnit(anchors=(running.floor.anchor,)), cable.device_port)
            await running.watch.stage(Stage.SYNCED)
    stages = list(dict.fromkeys(event.stage for event in running.watch.events))
    assert stages == [
        *(Stage.WAITING, Stage.FOUND, Stage.KEYED, Stage.WRITING, Stage.INSTALLED),
        *(Stage.PROVEN, Stage.COMMITTED, Stage.SYNCED),
    ]
    last = running.watch.events[-1]
    assert last.done == last.total > 0
    # A call more is one that was repeated on a busy machine; the benchmark counts exactly.
    assert 10 <= last.calls <= 15
    assert last.wire_bytes > 0


async def test_several_ports_are_served_at_once(tmp_path: Path) -> None:
    with Cable() as one, Cable() as two, Cable() as three:
        cables = (one, two, three)
        async with station(tmp_path, *(cable.station_port for cable in cables)) as running:
            units = [MemoryUnit(hardware_id=f"hw-{at}") for at in range(3)]
            await asyncio.gather(
                *(plug_in(unit, cable.device_port) for unit, cable in zip(units, cables, strict=True))
            )
            for unit in units:
                await running.watch.stage(Stage.SYNCED, hardware_id=unit.hardware_id)
            made = {unit.device_id for unit in await running.ledger.units()}
    assert made == {"line3-0001", "line3-0002", "line3-0003"}


async def test_an_adapter_that_is_plugged_in_is_a_lane_until_it_is_pulled_out(tmp_path: Path) -> None:
    plugged: asyncio.Queue[frozenset[str]] = asyncio.Queue()

    async def changes() -> AsyncIterator[frozenset[str]]:
        while True:
            yield await plugged.get()

    floor, watch = Floor(), Watch()
    with Cable() as first, Cable() as second:
        async with Ledger.opened(tmp_path / "l.db", clock=fixed_clock, identity=floor.identity) as ledger:
            runner = Station(
                identity=floor.identity, ledger=ledger, enroller=floor.enroller, ids=IdRule(prefix="line3-")
            )
            task = asyncio.ensure_future(runner.run([], report=watch, plugged=changes()))
            for lane, cable in enumerate((first, second), start=1):
                plugged.put_nowait(frozenset({cable.station_port}))
                await plug_in(MemoryUnit(hardware_id=f"hw-{lane}"), cable.device_port)
                made = await watch.stage(Stage.SYNCED, hardware_id=f"hw-{lane}")
                assert (made.port, made.lane) == (cable.station_port, lane)
            gone = await watch.stage(Stage.UNPLUGGED)
            assert (gone.port, gone.lane) == (first.station_port, 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_full_disk_of_the_line_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    floor, watch = Floor(), Watch()
    with Cable() as cable:
        async with (
            Ledger.opened(tmp_path / "l.db", clock=fixed_clock, identity=floor.identity) as ledger,
            Book.opened(tmp_path / "b.db", clock=utc_now) as book,
        ):
            await limit(book, pages=1)
            await fill(book)
            runner = Station(
                identity=floor.identity,
                ledger=ledger,
                enroller=floor.enroller,
                ids=IdRule(prefix="line3-"),
                outlets=Outlets(book=book, couriers=(ResultFile.parse(tmp_path / "results.jsonl"),)),
            )
            task = asyncio.ensure_future(runner.run([cable.station_port], report=watch))
            unit = MemoryUnit(hardware_id="hw-1")
            work = asyncio.ensure_future(plug_in(unit, cable.device_port))
            full = await watch.until(lambda event: event.cause is Cause.DISK_FULL)
            assert full.hardware_id == "hw-1"
            await limit(book, pages=1000)
            await work
            async with asyncio.timeout(PATIENCE.total_seconds()):
                while not (tmp_path / "results.jsonl").exists():
                    await book.waiting(BookKind.FILE)  # a turn for the others
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert unit.commits == 1
    results = (tmp_path / "results.jsonl").read_text()
    assert results.count('"result":"pass"') == 1


async def test_a_result_that_a_crash_kept_out_of_the_book_is_told_at_the_next_start(tmp_path: Path) -> None:
    floor = Floor()
    with Cable() as cable:
        async with station(tmp_path, cable.station_port) as running:
            await plug_in(MemoryUnit(hardware_id="hw-1"), cable.device_port)
            await running.watch.stage(Stage.SYNCED)
    path = tmp_path / "results.csv"
    async with (
        Ledger.opened(tmp_path / "ledger.db", clock=fixed_clock, identity=floor.identity) as ledger,
        Book.opened(tmp_path / "b.db", clock=utc_now) as book,
    ):
        outlets = Outlets(book=book, couriers=(ResultFile.parse(path),))
        for _ in range(2):
            runner = Station(
                identity=floor.identity,
                ledger=ledger,
                enroller=floor.enroller,
                ids=IdRule(prefix="line3-"),
                outlets=outlets,
            )
            task = asyncio.ensure_future(runner.run([], report=Watch()))
            async with asyncio.timeout(PATIENCE.total_seconds()):
                while not path.exists() or await book.waiting(BookKind.FILE):
                    await book.waiting(BookKind.FILE)  # a turn for the others
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert path.read_text().count("hw-1") == 1


async def limit(book: Book, *, pages: int) -> None:
    """Give the book so many pages of disk, or as few as it has."""

    def work(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await book._writer.run(work)


async def fill(book: Book) -> None:
    """Take what room is left in its last pages."""
    for size in (2000, 200, 1):
        with suppress(StorageFullError):
            for number in range(1000):
                job = Job(kind=BookKind.LABEL, id=f"{size}-{number}", unit="", body="x" * size)
                await book.add([job])


async def test_one_unit_after_another_on_the_same_port(tmp_path: Path) -> None:
    with Cable() as cable:
        async with station(tmp_path, cable.station_port) as running:
            for name in ("hw-1", "hw-2"):
                await plug_in(MemoryUnit(hardware_id=name), cable.device_port)
                await running.watch.stage(Stage.SYNCED, hardware_id=name)


async def test_a_unit_that_is_run_again_gets_no_second_certificate(tmp_path: Path) -> None:
    unit = MemoryUnit()
    with Cable() as cable:
        async with station(tmp_path, cable.station_port) as running:
            first = await plug_in(unit, cable.device_port)
            second = await plug_in(unit, cable.device_port)
    assert first.fingerprint == second.fingerprint
    assert len(running.floor.enroller.made) == 1


async def test_noise_on_the_line_costs_time_only(tmp_path: Path) -> None:
    unit = MemoryUnit()
    with Cable(noise=1e-4, seed=3) as cable:
        async with station(tmp_path, cable.station_port) as running:
            await plug_in(unit, cable.device_port)
            event = await running.watch.stage(Stage.SYNCED)
    assert unit.commits == 1
    assert event.serial


async def test_a_power_cut_half_way_and_the_next_run_goes_on(tmp_path: Path) -> None:
    unit = MemoryUnit()
    with Cable() as cable:
        async with station(tmp_path, cable.station_port) as running:
            device = asyncio.ensure_future(plug_in(unit, cable.device_port))
            await running.watch.stage(Stage.WRITING)
            device.cancel()
            await asyncio.gather(device, return_exceptions=True)
            await plug_in(unit, cable.device_port)
            await running.watch.stage(Stage.SYNCED)
            made = await running.ledger.find("hw-1")
    assert made is not None
    assert [one.state for one in made.generations] == [UnitState.SYNCED]
    assert unit.commits == 1


async def test_a_port_that_comes_later_and_goes_is_served_when_it_is_back(tmp_path: Path) -> None:
    link = tmp_path / "ttyUSB0"
    async with station(tmp_path, str(link)) as running:
        await running.watch.stage(Stage.WAITING)
        for name in ("hw-1", "hw-2"):
            with Cable() as cable:
                link.symlink_to(cable.station_port)
                await plug_in(MemoryUnit(hardware_id=name), cable.device_port)
                await running.watch.stage(Stage.SYNCED, hardware_id=name)
                link.unlink()
        await running.watch.stage(Stage.UNPLUGGED)


async def test_what_was_committed_while_the_server_was_away_is_told_when_it_is_back(tmp_path: Path) -> None:
    with Cable() as one, Cable() as two:
        async with station(tmp_path, one.station_port, two.station_port) as running:
            enroller = running.floor.enroller
            confirm = enroller.confirm

            async def away(_serial: str) -> None:
                enroller.is_away = True
                await confirm("")

            enroller.confirm = away  # type: ignore[method-assign]  # the server goes away after it issued
            await plug_in(MemoryUnit(hardware_id="hw-1"), one.device_port)
            await running.watch.stage(Stage.COMMITTED)
            enroller.confirm, enroller.is_away = confirm, False  # type: ignore[method-assign]  # and is back
            await plug_in(MemoryUnit(hardware_id="hw-2"), two.device_port)
            await running.watch.stage(Stage.SYNCED, hardware_id="hw-2")
            await running.watch.stage(Stage.SYNCED, hardware_id="hw-1")


async def test_the_same_hardware_id_at_two_ports_is_served_at_one(tmp_path: Path) -> None:
    with Cable() as one, Cable() as two:
        async with station(tmp_path, one.station_port, two.station_port) as running:
            first = asyncio.ensure_future(plug_in(MemoryUnit(), one.device_port))
            await running.watch.stage(Stage.FOUND)
            second = asyncio.ensure_future(plug_in(MemoryUnit(), two.device_port))
            event = await running.watch.stage(Stage.FAILED)
            await first
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
    assert "another port" in event.detail


async def test_log_lines_of_a_device_do_not_disturb(tmp_path: Path) -> None:
    unit = MemoryUnit()
    with Cable() as cable:
        async with station(tmp_path, cable.station_port) as running:
            chatter = os.open(cable.device_port, os.O_WRONLY | os.O_NOCTTY)
            try:
                os.write(chatter, b"*** Booting ***\r\n[00:00:00.1] <inf> main: \x06\x09 hello\r\n")
                await plug_in(unit, cable.device_port)
            finally:
                os.close(chatter)
            await running.watch.stage(Stage.SYNCED)


async def test_garbage_from_the_other_end_does_not_end_a_lane(tmp_path: Path) -> None:
    with Cable() as cable:
        async with station(tmp_path, cable.station_port) as running:
            garbage = os.open(cable.device_port, os.O_WRONLY | os.O_NOCTTY)
            try:
                for octets in (b"\x00" * 3000, b"\xff" * 3000, os.urandom(3000), b"\x06\x09" * 1000 + b"\n"):
                    os.write(garbage, octets)
                    await running.watch.stage(Stage.WAITING)
            finally:
                os.close(garbage)
            await plug_in(MemoryUnit(), cable.device_port)
            await running.watch.stage(Stage.SYNCED)


async def test_a_path_that_is_no_port_is_refused_at_once(tmp_path: Path) -> None:
    floor = Floor()
    async with Ledger.opened(tmp_path / "ledger.db", clock=fixed_clock, identity=FLOOR.identity) as ledger:
        runner = Station(identity=floor.identity, ledger=ledger, enroller=floor.enroller, ids=IdRule())
        with pytest.raises(BadInputError, match="serial port"):
            await runner.run([str(tmp_path / "ledger.db")], report=Watch())


async def test_a_port_in_use_is_told_and_waited_for(tmp_path: Path) -> None:
    with Cable() as cable:
        async with station(tmp_path, cable.station_port) as first:
            await first.watch.until(lambda event: event.detail == "waiting for a unit")
            second_path = tmp_path / "second"
            second_path.mkdir()
            async with station(second_path, cable.station_port) as second:
                await second.watch.until(lambda event: "another program" in event.detail)


async def test_a_device_without_a_station_says_so_after_its_patience(tmp_path: Path) -> None:
    with Cable() as cable, pytest.raises(ChannelError, match="no station"):
        await serve_station(
            cable.device_port,
            MemoryUnit(),
            clock=utc_now,
            options=SerialOptions(timeout=timedelta(milliseconds=50)),
        )


async def test_a_device_says_that_its_port_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="cannot open"):
        await plug_in(MemoryUnit(), str(tmp_path / "ttyNone"))


async def test_a_device_waits_for_a_port_that_was_pulled(tmp_path: Path) -> None:
    link = tmp_path / "ttyS0"
    unit = MemoryUnit()
    master, slave = os.openpty()
    tty.setraw(slave)
    link.symlink_to(os.ttyname(slave))
    device = asyncio.ensure_future(plug_in(unit, str(link)))
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not _is_open_twice(os.ttyname(slave)):  # noqa: ASYNC110 - only the kernel knows
            await asyncio.sleep(0)
    link.unlink()
    os.close(slave)
    os.close(master)
    with Cable() as cable:
        link.symlink_to(cable.device_port)
        async with station(tmp_path, cable.station_port):
            await device
    assert unit.commits == 1


def _is_open_twice(port: str) -> bool:
    links = [Path(entry) for entry in Path("/proc/self/fd").iterdir()]
    return sum(os.path.realpath(link) == port for link in links) > 1
