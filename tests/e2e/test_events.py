"""What happens is told as it happens: none is lost, none told twice, and who was removed hears no more."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from fleet.errors import RefusedError
from fleet.ra.context import Context
from fleet.web import api
from fleet.web.api import events
from fleet.web.api.who import Operator
from fleet.web.gate import problems
from fleet.web.listening import bind_unix, serving
from tests.api import OpenApi, open_api
from tests.homes import FleetHome, make_home


@pytest.fixture(scope="session")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("homes") / "home")


@pytest.fixture
async def opened(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[OpenApi]:
    async with open_api(fleet_home, tmp_path) as found:
        yield found


@asynccontextmanager
async def listening(
    opened: OpenApi, query: str = "", *, last: str | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {} if last is None else {events.LAST_EVENT: last}
    async with opened.local.session.get(f"http://fleet/api/v1/events{query}", headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert await response.content.readuntil(b"\n\n") == b"retry: 2000\n\n"
        yield response
        response.close()


async def heard(response: aiohttp.ClientResponse) -> dict[str, object]:
    """Return the next event; its id is the number of its entry."""
    async with asyncio.timeout(10):
        while (text := (await response.content.readuntil(b"\n\n")).decode()).startswith(":"):
            pass
    first, data = text.removesuffix("\n\n").split("\n")
    found = json.loads(data.removeprefix("data: "))
    assert first == f"id: {found['number']}"
    assert isinstance(found, dict)
    return found


async def suspend(opened: OpenApi, device_id: str) -> None:
    await opened.desk.register(device_id)
    await opened.local("POST", f"devices/prod/{device_id}/suspend", b'{"reason":"lost"}')


async def test_an_act_is_told_to_who_listens(opened: OpenApi) -> None:
    async with listening(opened, "?action=device.suspended") as stream:
        await suspend(opened, "d1")
        found = await heard(stream)
    assert (found["action"], found["actor"]) == ("device.suspended", "operator:local")
    assert found["device_id"] == "d1"


async def test_who_comes_back_misses_nothing_and_hears_nothing_twice(opened: OpenApi) -> None:
    async with listening(opened, "?action=device.suspended") as stream:
        await suspend(opened, "d1")
        last = (await heard(stream))["number"]
    for name in ("d2", "d3"):
        await suspend(opened, name)
    async with listening(opened, "?action=device.suspended", last=str(last)) as again:
        assert [(await heard(again))["device_id"] for _ in range(2)] == ["d2", "d3"]


async def test_the_whole_trail_can_be_heard_from_its_first_entry(opened: OpenApi) -> None:
    async with listening(opened, "?after=-1") as stream:
        assert [(await heard(stream))["number"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("query", "last"), [("?what=1", None), ("?after=-2", None), ("?serial=x", None), ("", "x"), ("", "-1")]
)
async def test_a_stream_that_is_asked_for_wrongly_is_refused(
    opened: OpenApi, query: str, last: str | None
) -> None:
    headers = {} if last is None else {events.LAST_EVENT: last}
    async with opened.local.session.get(f"http://fleet/api/v1/events{query}", headers=headers) as response:
        assert (response.status, response.content_type) == (400, "application/problem+json")


async def test_no_more_listen_than_there_are_places(opened: OpenApi) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(events.MOST_LISTENERS):
            await stack.enter_async_context(listening(opened))
        status, _, found = await opened.local("GET", "events")
    assert (status, found["code"]) == (503, "busy")


async def test_who_was_removed_hears_no_more(opened: OpenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async def removed(_request: object, _context: Context) -> Operator:
        raise RefusedError("removed")

    async with listening(opened) as stream:
        monkeypatch.setattr(events, "operator_of", removed)
        await suspend(opened, "d1")
        async with asyncio.timeout(10):
            await stream.content.read()


async def test_a_server_that_stops_ends_the_streams_in_good_order(opened: OpenApi, tmp_path: Path) -> None:
    app = web.Application(middlewares=[problems])
    api.mount(app, opened.desk.context)
    path = tmp_path / "other.sock"
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        async with serving(app, bind_unix(path)):
            stream = await session.get("http://fleet/api/v1/events")
            await stream.content.readuntil(b"\n\n")
        async with stream:
            assert await stream.content.read() == b""  # of a stream that was cut this raises
