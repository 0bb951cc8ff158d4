"""Whoever comes back from an outage asks when to renew, before it joins all the others who missed it."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from device_agent.channels.memory import Heard
from device_agent.wire import replies
from device_agent.wire.requests import Renew, Request
from tests.device import Table
from tests.provisioner import Provisioner
from tests.waiting import until

HOUR = timedelta(hours=1)


class Counting(Provisioner):
    """Wants the first certificate renewed at once, and the next ones far later; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.renew_after = datetime.now(UTC).replace(microsecond=0)

    def answer(self, heard: Heard, request: Request) -> replies.Reply:
        self.asked[request.kind] += 1
        if isinstance(request, Renew):
            self.renew_after += timedelta(days=60)
        return super().answer(heard, request)


@pytest.fixture
def server() -> Counting:
    return Counting()


@pytest.fixture
def table(tmp_path: Path, server: Counting) -> Table:
    return Table(folder=tmp_path, server=server)


async def come_back(table: Table, *, after: timedelta) -> datetime | None:
    """Be away for so long, and work until all is said; return when the certificate is to be renewed."""
    table.ahead = after
    with table.agent() as agent:
        before = agent.record.life.active
        async with agent.connected():
            await until(lambda: agent.record.life.active != before and agent.record.life.pending is None)
        active = agent.record.life.active
        return None if active is None else active.renew_after


async def test_a_renewal_that_the_server_has_moved_is_not_done_now(table: Table, server: Counting) -> None:
    await table.enroll()
    server.renew_after += 6 * HOUR
    assert await come_back(table, after=2 * HOUR) == server.renew_after
    assert (server.asked["status"], server.asked["renew"]) == (1, 0)


async def test_a_renewal_that_the_server_still_wants_is_done(table: Table, server: Counting) -> None:
    await table.enroll()
    await come_back(table, after=2 * HOUR)
    assert (server.asked["status"], server.asked["renew"]) == (1, 1)


async def test_who_is_hardly_late_asks_nothing(table: Table, server: Counting) -> None:
    await table.enroll()
    await come_back(table, after=HOUR / 2)
    assert (server.asked["status"], server.asked["renew"]) == (0, 1)


async def test_who_has_no_time_left_asks_nothing(table: Table, server: Counting) -> None:
    server.lifetime = 3 * HOUR  # it began an hour ago
    await table.enroll()
    server.lifetime = timedelta(days=90)
    await come_back(table, after=1.9 * HOUR)
    assert (server.asked["status"], server.asked["renew"]) == (0, 1)
