"""Whoever comes back from an outage asks when to renew, before it joins all the others who missed it."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from device_agent.channels.memory import Heard
from device_agent.errors import RefusedError
from device_agent.wire import replies
from device_agent.wire.notices import Notice
from device_agent.wire.problems import ProblemCode
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
        self.signs = True
        self.renew_after = datetime.now(UTC).replace(microsecond=0)

    def answer(self, heard: Heard, request: Request) -> replies.Reply:
        self.asked[request.kind] += 1
        if isinstance(request, Renew) and not self.signs:
            return replies.Problem.of(request.id, ProblemCode.UNAVAILABLE, "no CA signs now")
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
            await until(lambda: agent.record.life.active != before)
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


async def test_a_renewal_that_has_begun_waits_for_the_moment_that_a_notice_gives_it(
    table: Table, server: Counting
) -> None:
    server.signs = False
    await table.enroll()
    with table.agent() as agent:
        active = agent.record.life.active
        assert active is not None
        notice = Notice(serial=active.serial, renew_after=server.renew_after + HOUR).encode()
        async with agent.connected():
            await until(lambda: server.asked["renew"] > 0)
            table.network.deliver("fleet/v1/prod/d1/notice", notice)
            await until(lambda: agent.status().problem is None)
            asked, server.signs = server.asked["renew"], True
            await agent.publish("sync", b"")
            assert (server.asked["renew"], agent.record.life.pending is None) == (asked, False)
            table.ahead = 2 * HOUR
            table.network.deliver("fleet/v1/prod/d1/notice", notice)
            await until(lambda: agent.record.life.pending is None)
    assert server.asked["renew"] == asked + 1


async def test_a_renewal_that_has_begun_before_an_outage_is_asked_about_after_it(
    table: Table, server: Counting
) -> None:
    await table.enroll()
    server.signs = False
    with table.agent() as agent, pytest.raises(RefusedError):
        await agent.renew_once()
    server.signs, asked = True, server.asked["renew"]
    server.renew_after += 6 * HOUR
    assert await come_back(table, after=2 * HOUR) == server.renew_after
    assert (server.asked["status"], server.asked["renew"]) == (1, asked)
