"""The device asks what time it is: what it believes of the answers, and that the others change nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.channels.memory import Heard
from device_agent.clock import DeviceClock
from device_agent.config import Connection
from device_agent.core.clock import TimeSource
from device_agent.errors import ChannelError
from device_agent.keys.place import open_keys
from device_agent.life import Life
from device_agent.released import RELEASED
from device_agent.signals import Signals
from device_agent.store import open_store
from device_agent.timing import Timing
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Problem, Reply, Time
from device_agent.wire.requests import Request, TimeQuery
from tests.device import Table
from tests.time_keys import TimeKey, signed_time, time_key

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(kw_only=True)
class Asked:
    """A device in 1970 that is enrolled, and a server that answers as a test wants."""

    timing: Timing
    clock: DeviceClock
    signals: Signals
    key: TimeKey
    now: datetime = NOW
    answer: Callable[[TimeQuery], Reply] | None = None
    """Where it is not the truth."""
    questions: list[TimeQuery] = field(default_factory=list)

    async def ask(self, request: Request) -> Reply:
        assert isinstance(request, TimeQuery)
        self.questions.append(request)
        return self.truth(request) if self.answer is None else self.answer(request)

    def truth(self, query: TimeQuery) -> Time:
        return signed_time(self.key, message_id=query.id, domain="prod", nonce=query.nonce, now=self.now)

    async def learn(self) -> TimeSource:
        await self.timing.learn(self)
        return self.clock.moment().source


@pytest.fixture
async def asked(tmp_path: Path) -> Asked:
    table = Table(folder=tmp_path)
    await table.enroll()
    key = time_key(table.server.issuer, "acme prod device time 1")
    clock = DeviceClock(table.state, system=lambda: EPOCH, elapsed=timedelta)
    signals = Signals()
    with open_store(table.state) as store:
        life = Life(store, open_keys(table.state), clock=clock, new_key_name=lambda: "none")
        numbers = iter(range(100))
        timing = Timing(
            life,
            clock,
            signals=signals,
            new_id=lambda: "t",
            new_nonce=lambda length: next(numbers).to_bytes(length),
        )
        return Asked(timing=timing, clock=clock, signals=signals, key=key)


async def test_an_enrolled_device_in_1970_knows_that_it_is_no_earlier_than_its_certificate(
    asked: Asked,
) -> None:
    found = asked.clock.moment()
    assert found.source is TimeSource.FLOOR
    assert RELEASED < found.now <= NOW


async def test_a_signed_time_is_believed(asked: Asked) -> None:
    assert await asked.learn() is TimeSource.SIGNED
    assert asked.clock() == NOW


async def test_a_time_that_is_known_is_not_asked_for_again(asked: Asked) -> None:
    await asked.learn()
    await asked.learn()
    assert len(asked.questions) == 1


async def test_every_question_has_a_nonce_of_its_own_so_an_old_answer_is_not_believed(asked: Asked) -> None:
    asked.answer = lambda query: Problem.of(query.id, ProblemCode.BUSY, "later")
    await asked.learn()
    old = asked.truth(asked.questions[0])
    asked.answer = lambda query: replace(old, id=query.id)
    assert await asked.learn() is TimeSource.FLOOR
    assert asked.signals.time_doubt == "time-not-believed"


async def test_a_server_whose_clock_is_hours_behind_the_certificate_is_not_believed(asked: Asked) -> None:
    asked.now = NOW - timedelta(hours=5)
    assert await asked.learn() is TimeSource.FLOOR


async def test_a_doubt_goes_with_the_next_time_that_is_believed(asked: Asked) -> None:
    asked.now = NOW - timedelta(hours=5)
    await asked.learn()
    asked.now = NOW
    await asked.learn()
    assert asked.signals.time_doubt is None


@pytest.mark.parametrize("code", [ProblemCode.UNSUPPORTED_TYPE, ProblemCode.BUSY])
async def test_a_server_that_tells_no_time_changes_nothing(asked: Asked, code: ProblemCode) -> None:
    asked.answer = lambda query: Problem.of(query.id, code, "not here")
    assert await asked.learn() is TimeSource.FLOOR
    assert asked.signals.time_doubt is None


@pytest.mark.parametrize("connection", Connection)
async def test_an_agent_that_runs_asks_over_its_connection_or_beside_one_that_is_lent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: Connection
) -> None:
    table, asked = Table(folder=tmp_path), asyncio.Event()
    await table.enroll()
    answer = table.server.answer

    def listening(heard: Heard, request: Request) -> Reply:
        if isinstance(request, TimeQuery):
            asked.set()
        return answer(heard, request)

    monkeypatch.setattr(table.server, "answer", listening)
    with Agent.opened(replace(table.settings, connection=connection), ways=table.network) as agent:
        async with agent.connected(), asyncio.timeout(5):
            await asked.wait()


async def test_a_line_that_breaks_changes_nothing(asked: Asked) -> None:
    def broken(_query: TimeQuery) -> Reply:
        raise ChannelError("the line broke")

    asked.answer = broken
    assert await asked.learn() is TimeSource.FLOOR
