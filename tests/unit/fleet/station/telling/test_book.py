"""The line's book: labels bound once, jobs never lost and never doubled."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.station.telling.book import Binding, Book, Job, Kind

NOW = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def book(tmp_path: Path, clock: Clock) -> AsyncIterator[Book]:
    async with Book.opened(tmp_path / "line.db", clock=clock) as opened:
        yield opened


def job(number: int, kind: Kind = Kind.HOOK) -> Job:
    return Job(kind=kind, id=f"id-{number}", unit=f"hw-{number}", body="{}")


def binding(label: str, hardware_id: str) -> Binding:
    return Binding(label=label, hardware_id=hardware_id, port="/dev/ttyUSB0")


async def test_a_label_belongs_to_one_unit_and_a_unit_to_one_label(book: Book) -> None:
    first = await book.bind(binding("L1", "hw-1"))
    assert await book.bind(binding("L1", "hw-1")) == first
    assert await book.bind(binding("L1", "hw-2")) == first
    assert await book.bind(binding("L2", "hw-1")) == first
    assert await book.binding_of("hw-1") == first
    assert await book.binding_of("hw-2") is None


async def test_a_job_is_there_until_it_arrived_and_comes_once(book: Book) -> None:
    await book.add([job(1), job(2), job(1)])
    assert [one.id for one in await book.due(Kind.HOOK, limit=9)] == ["id-1", "id-2"]
    assert await book.due(Kind.LABEL, limit=9) == ()
    await book.done(await book.due(Kind.HOOK, limit=1))
    await book.add([job(1)])
    assert [one.id for one in await book.due(Kind.HOOK, limit=9)] == ["id-2"]
    assert await book.waiting(Kind.HOOK) == 1


async def test_a_job_that_was_put_off_comes_back_at_its_time(book: Book, clock: Clock) -> None:
    await book.add([job(1), job(2)])
    (first, _) = await book.due(Kind.HOOK, limit=9)
    await book.put_off(first, problem="it says no", until=NOW + timedelta(minutes=10))
    assert [one.id for one in await book.due(Kind.HOOK, limit=9)] == ["id-2"]
    clock.now = NOW + timedelta(minutes=10)
    (again,) = [one for one in await book.due(Kind.HOOK, limit=9) if one.id == "id-1"]
    assert (again.attempts, again.problem) == (1, "it says no")


async def test_a_label_is_printed_again_by_unit_or_by_label(book: Book) -> None:
    await book.add([job(1, Kind.LABEL)])
    await book.done(await book.due(Kind.LABEL, limit=9))
    await book.bind(binding("L1", "hw-1"))
    assert await book.again(Kind.LABEL, "hw-9") == 0
    for name in ("hw-1", "L1"):
        assert await book.again(Kind.LABEL, name) == 1
        await book.done(await book.due(Kind.LABEL, limit=9))


async def test_what_was_kept_is_there_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    async with Book.opened(tmp_path / "b.db", clock=clock) as book:
        await book.add([job(1)])
    async with Book.opened(tmp_path / "b.db", clock=clock) as book:
        assert await book.waiting(Kind.HOOK) == 1
    assert (tmp_path / "b.db").stat().st_mode & 0o077 == 0
