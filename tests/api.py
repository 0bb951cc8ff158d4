"""The operators' API of a desk, and clients of it: over the home's socket, and over TCP as nobody."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from fleet.web import api
from fleet.web.gate import problems
from fleet.web.listening import bind, bind_unix, serving
from tests.desk import Desk, at_desk
from tests.homes import FleetHome


class Asking:
    """A client; `session` for what a call cannot do."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def __call__(
        self, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, str, dict[str, object]]:
        """Return status, media type, and the object that was answered; of other documents nothing."""
        async with self.session.request(method, f"{self.base}/api/v1/{path}", data=body) as response:
            text = await response.text()
            is_object = response.content_type.endswith("json")
            return response.status, response.content_type, json.loads(text) if is_object else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenApi:
    """A desk whose API can be asked."""

    local: Asking
    """Through the home's socket: its owner."""
    remote: Asking
    """By plain TCP, without any certificate: nobody."""
    desk: Desk


@asynccontextmanager
async def open_api(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[OpenApi]:
    """Serve the API of a home's copy on a socket in the file system and on TCP."""
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(at_desk(fleet_home, tmp_path))
        path = tmp_path / "admin.sock"
        await stack.enter_async_context(serving(_app(desk), bind_unix(path)))
        tcp: socket.socket = bind("127.0.0.1", 0, key="http_port")
        port = tcp.getsockname()[1]
        await stack.enter_async_context(serving(_app(desk), tcp))
        unix = aiohttp.UnixConnector(str(path))
        local = await stack.enter_async_context(aiohttp.ClientSession(connector=unix))
        remote = await stack.enter_async_context(aiohttp.ClientSession())
        yield OpenApi(
            local=Asking(local, "http://fleet"), remote=Asking(remote, f"http://127.0.0.1:{port}"), desk=desk
        )


def _app(desk: Desk) -> web.Application:
    app = web.Application(middlewares=[problems])
    api.mount(app, desk.context)
    return app
