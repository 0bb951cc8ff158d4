"""Other programs publish and subscribe over the agent's connection, through its socket."""

import asyncio
import base64
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.agent import Agent
from device_agent.control import listening
from device_agent.sharing import parse_filter
from device_agent.traffic import matches
from device_agent.wire.problems import MalformedMessageError
from tests.device import Table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "share.sock"


@pytest.fixture
async def table(tmp_path: Path) -> Table:
    made = Table(folder=tmp_path)
    await made.enroll()
    return made


@pytest.fixture
async def agent(table: Table, path: Path) -> AsyncIterator[Agent]:
    settings = replace(table.settings, share=path)
    with Agent.opened(settings, ways=table.network, clock=table.clock) as opened:
        async with opened.connected():
            await opened.ready()
            yield opened


@dataclass(kw_only=True)
class Program:
    """A program of the device."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, line: bytes) -> None:
        self.writer.write(line + b"\n")

    def ask(self, **members: object) -> None:
        self.say(json.dumps(members).encode())

    async def hear(self) -> dict[str, object]:
        async with asyncio.timeout(10):
            line = await self.reader.readuntil(b"\n")
        found: dict[str, object] = json.loads(line)
        return found

    async def asks(self, **members: object) -> dict[str, object]:
        self.ask(**members)
        return await self.hear()

    async def is_closed(self) -> bool:
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True


@asynccontextmanager
async def program(path: Path) -> AsyncIterator[Program]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield Program(reader=reader, writer=writer)
    finally:
        writer.close()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def bodies(table: Table) -> list[bytes]:
    return [body for topic, body in table.network.published if topic == "devices/prod/d1/up"]


async def test_a_publish_is_acknowledged_and_what_is_subscribed_arrives(
    agent: Agent, table: Table, path: Path
) -> None:
    async with program(path) as first:
        assert await first.asks(do="publish", id="1", topic="up", payload=base64_of(b"21.5")) == {
            "id": "1",
            "exit": 0,
        }
        assert await first.asks(do="subscribe", id="2", topic="down/+") == {"id": "2", "exit": 0}
        table.network.deliver("devices/prod/d1/other", b"no")
        table.network.deliver("devices/prod/d1/down/x", b"go")
        assert await first.hear() == {"id": "2", "topic": "down/x", "payload": base64_of(b"go")}
        assert await first.asks(do="publish", id="3", topic="up", payload="") == {"id": "3", "exit": 0}
    assert bodies(table) == [b"21.5", b""]


async def test_messages_of_several_programs_survive_cuts_and_renewals(
    agent: Agent, table: Table, path: Path
) -> None:
    async with program(path) as first, program(path) as second:
        await first.asks(do="subscribe", id="s", topic="#")
        for number in range(90):
            second.ask(do="publish", id=str(number), topic="up", payload=base64_of(b"%d" % number))
            match number % 30:
                case 10:
                    table.network.cut()
                case 20:
                    await agent.renew()
        answers = [await second.hear() for _ in range(90)]
        assert {answer["id"] for answer in answers} == {str(number) for number in range(90)}
        assert {answer["exit"] for answer in answers} == {0}
        await agent.ready()
        table.network.deliver("devices/prod/d1/still", b"here")
        assert (await first.hear())["topic"] == "still"
    assert set(bodies(table)) == {b"%d" % number for number in range(90)}


async def test_the_socket_is_its_owner_s_alone(agent: Agent, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"do": "renew"}, 2),
        ({"do": "publish", "topic": "up/#", "payload": ""}, 2),
        ({"do": "publish", "topic": "up"}, 6),
        ({"do": "publish", "topic": "up", "payload": base64_of(b"x" * (32 * 1024 + 1))}, 6),
        ({"do": "subscribe", "topic": "a/#/b"}, 6),
        ({"do": "subscribe", "topic": "a+"}, 6),
    ],
)
async def test_what_cannot_be_done_is_said_and_the_next_is_done(
    agent: Agent, path: Path, members: dict[str, object], code: int
) -> None:
    async with program(path) as asking:
        told = await asking.asks(**members, id="1")
        assert (told["id"], told["exit"]) == ("1", code)
        assert (await asking.asks(do="publish", id="2", topic="up", payload=""))["exit"] == 0


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"id": 7}', b"\xff", b"[" * 50_000, b"x" * 70_000])
async def test_what_is_no_request_ends_that_connection_alone(agent: Agent, path: Path, line: bytes) -> None:
    async with program(path) as strange, program(path) as other:
        strange.say(line)
        if len(line) < 65_000:
            assert (await strange.hear())["exit"] == 6
        assert await strange.is_closed()
        assert (await other.asks(do="publish", id="1", topic="up", payload=""))["exit"] == 0


async def test_programs_and_subscriptions_are_counted(agent: Agent, path: Path) -> None:
    async with program(path) as first:
        for number in range(16):
            assert (await first.asks(do="subscribe", id=str(number), topic=f"a/{number}"))["exit"] == 0
        assert (await first.asks(do="subscribe", id="more", topic="b"))["exit"] == 2
        others = [await asyncio.open_unix_connection(str(path)) for _ in range(16)]
        assert await Program(reader=others[-1][0], writer=others[-1][1]).is_closed()
        for _, writer in others:
            writer.close()


async def test_a_program_that_does_not_wait_for_answers_is_slowed_down(
    table: Table, agent: Agent, path: Path
) -> None:
    """Nothing is published while there is no connection, and no more than 32 requests are taken."""
    table.network.blocks_mqtt = True
    table.network.cut()
    async with program(path) as eager:
        for number in range(200):
            eager.ask(do="publish", id=str(number), topic="up", payload=base64_of(b"%d" % number))
        table.network.blocks_mqtt = False
        assert [(await eager.hear())["exit"] for _ in range(200)] == [0] * 200
    assert len(set(bodies(table))) == 200


async def test_an_agent_that_ends_closes_its_programs_connections(table: Table, path: Path) -> None:
    settings = replace(table.settings, share=path)
    with Agent.opened(settings, ways=table.network, clock=table.clock) as opened:
        async with opened.connected():
            await opened.ready()
            reader, writer = await asyncio.open_unix_connection(str(path))
            held = Program(reader=reader, writer=writer)
            await held.asks(do="subscribe", id="1", topic="#")
    assert await held.is_closed()
    writer.close()
    assert not path.exists()


@given(st.text(alphabet="ab/+#\0", max_size=8))
def test_a_filter_is_taken_exactly_if_mqtt_has_it(text: str) -> None:
    levels = text.split("/")
    is_fit = (
        all(level in ("+", "#") or not set(level) & {"+", "#", "\0"} for level in levels)
        and "#" not in levels[:-1]
    )
    try:
        parse_filter(text)
    except MalformedMessageError:
        assert not is_fit
    else:
        assert is_fit
        matches("a/b", text)


def test_a_socket_that_is_there_takes_connections_before_anybody_serves(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with listening(path), socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
