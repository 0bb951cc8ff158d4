"""A lane writes down once what became of a unit: one that stays is tried again, and fails one time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from fleet.station.drivers.driver import Decide, Driver, Seen
from fleet.station.keeping.ledger import Ledger
from fleet.station.line import lane as lanes
from fleet.station.line.gate import Gate
from fleet.station.line.lane import Floor, Lane
from fleet.station.line.visit import Desk
from fleet.station.link import port as ports
from fleet.station.link import steps
from fleet.station.link.cable import Cable
from fleet.station.link.causes import Cause
from fleet.station.link.steps import Step
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from fleet.station.telling.events import LaneEvent
from tests.factory_floor import Floor as Factory
from tests.factory_floor import fixed_clock

FACTORY = Factory()
REFUSED = steps.End(step=Step.FAILED, detail="batch b is none of this station's", cause=Cause.NOT_ALLOWED)
CABLE = steps.End(step=Step.FAILED, detail="the unit does not answer any more", cause=Cause.BAD_CABLE)
NO_LABEL = steps.End(step=Step.HELD, detail="no label was scanned", cause=Cause.SCAN_LABEL)
GONE = steps.End(step=Step.SILENT)
DONE = steps.End(step=Step.COMMITTED)


class Scripted:
    """A driver whose visits end as they are told to, of one unit."""

    wire_bytes = 0
    began = 0.0

    def __init__(self, end: steps.End) -> None:
        self.end = end

    @property
    def step(self) -> Step:
        return self.end.step

    @property
    def seen(self) -> Seen:
        return Seen(hardware_id="hw-1", device_id="d1")

    async def serve(self, *, decide: Decide, watch: Callable[[Driver], None]) -> steps.End:
        assert callable(decide)
        assert callable(watch)
        return self.end

    async def until_it_leaves(self) -> None:
        return


@pytest.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[Clerk]:
    async with Ledger.opened(tmp_path / "l.db", clock=fixed_clock, identity=FACTORY.identity) as ledger:
        yield Clerk(ledger=ledger, enroller=FACTORY.enroller, ids=IdRule())


async def noted(clerk: Clerk, monkeypatch: pytest.MonkeyPatch, *ends: steps.End) -> list[tuple[str, str]]:
    """Return what a lane writes down while visits end so, one after another."""
    for pause in ("_FAILED_SECONDS", "_HELD_SECONDS", "_SHORTLY_SECONDS"):
        monkeypatch.setattr(lanes, pause, 0.0)
    left, found = iter(ends), list[tuple[str, str]]()

    async def ended(event: LaneEvent) -> None:
        found.append((event.stage.value, event.cause.value))

    floor = Floor(
        desk=Desk(clerk=clerk, gate=Gate()),
        driver=lambda _line: _next(left),
        report=lambda _event: None,
        ended=ended,
        baud=115200,
    )
    with (
        Cable() as cable,
        ports.opened(cable.station_port, baud=115200) as line,
        pytest.raises(asyncio.CancelledError),
    ):
        await Lane(cable.station_port, floor, number=1)._attend(line)
    return found


def _next(left: Iterator[steps.End]) -> Scripted:
    for end in left:
        return Scripted(end)
    raise asyncio.CancelledError


async def test_a_unit_that_is_refused_fails_once_however_often_it_is_tried(
    clerk: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await noted(clerk, monkeypatch, REFUSED, REFUSED, REFUSED) == [("failed", "not-allowed")]


async def test_a_unit_that_waits_for_its_label_has_not_failed(
    clerk: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await noted(clerk, monkeypatch, NO_LABEL, NO_LABEL, DONE)
    assert found == [("committed", "none")]


async def test_another_reason_another_visit_and_the_end_are_news(
    clerk: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await noted(clerk, monkeypatch, CABLE, REFUSED, REFUSED, GONE, REFUSED, DONE, REFUSED)
    assert found == [
        ("failed", "bad-cable"),
        ("failed", "not-allowed"),
        ("failed", "not-allowed"),
        ("committed", "none"),
        ("failed", "not-allowed"),
    ]
