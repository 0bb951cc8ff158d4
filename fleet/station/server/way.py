"""The way from a station to its server: over HTTPS with its certificate, or in its home by the admin socket.

It can be replaced while it is used, by one that shows the next certificate. It tries nothing twice by itself.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from ssl import SSLContext
from typing import Self, TypeAlias, TypeVar

import aiohttp

from device_agent.wire.fields import MAX_BODY_BYTES, parse_object
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.errors import FleetError, NotFoundError, RefusedError, UnreachableError
from fleet.station.server.tunnel import TokenServer, Tunnel

_Answer = TypeVar("_Answer")
_Said = TypeVar("_Said")

PATIENCE = timedelta(seconds=20)
_ENDED = (ssl.SSLError, ConnectionResetError)
_STATION_HEADER = "X-Fleet-Station"
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSocket:
    """The server's socket in its own home, and the name that the station goes by there."""

    path: Path
    station: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsServer:
    """A server elsewhere; `tls` trusts it by `trust/server.pem` and shows the station's certificate."""

    host: str
    port: int
    tls: SSLContext


Server: TypeAlias = AdminSocket | HttpsServer | TokenServer


@asynccontextmanager
async def connected(
    server: Server, *, patience: timedelta
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Give what asks a server, and what its addresses begin with; nothing is asked before it is needed.

    Raises:
        FleetError: the station's key is in a token, and cannot be used.
    """
    async with AsyncExitStack() as stack:
        connector: aiohttp.BaseConnector
        tunnels: tuple[Tunnel, ...] = ()
        match server:
            case AdminSocket(path=path):
                connector, base = aiohttp.UnixConnector(str(path)), "http://localhost"
            case HttpsServer(host=host, port=port, tls=tls):
                connector, base = aiohttp.TCPConnector(ssl=tls), f"https://{host}:{port}"
            case TokenServer(host=host, port=port):
                tunnels = (await stack.enter_async_context(Tunnel.opened(server)),)
                connector, base = aiohttp.UnixConnector(str(tunnels[0].socket)), f"http://{host}:{port}"
        limit = aiohttp.ClientTimeout(total=patience.total_seconds())
        session = aiohttp.ClientSession(connector=connector, timeout=limit, middlewares=tunnels)
        yield await stack.enter_async_context(session), base


@dataclass(slots=True, kw_only=True)
class _Road:
    """One server and its connections; `asked` counts those who wait for an answer on it."""

    http: aiohttp.ClientSession
    base: str
    headers: dict[str, str]
    stack: AsyncExitStack
    asked: int = 0
    is_idle: asyncio.Event = field(default_factory=asyncio.Event)


class Way:
    """The way to the server, shared by all that a station asks."""

    def __init__(self, road: _Road, *, patience: timedelta) -> None:
        self._road = road
        self._patience = patience

    @classmethod
    @asynccontextmanager
    async def opened(cls, server: Server, *, patience: timedelta = PATIENCE) -> AsyncIterator[Self]:
        """Open it; raises as `connected`."""
        way = cls(await _road_to(server, patience), patience=patience)
        try:
            yield way
        finally:
            await way._road.stack.aclose()

    async def take(self, server: Server) -> None:
        """Ask this server from now on; who waits for an answer gets it, then the connections before end.

        Raises:
            FleetError: the station's key is in a token, and cannot be used; all stays as it was.
        """
        following = await _road_to(server, self._patience)
        before, self._road = self._road, following
        if before.asked:
            before.is_idle.clear()
            await before.is_idle.wait()
        await before.stack.aclose()

    async def send(self, path: str, body: bytes, query: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body of an answer, whatever it says. Raises `UnreachableError`."""
        road = self._road
        road.asked += 1
        try:
            async with road.http.post(
                road.base + path, data=body, params=query, headers=road.headers
            ) as response:
                return response.status, await bounded(response.content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _explained(error, base=road.base) from error
        finally:
            road.asked -= 1
            if not road.asked:
                road.is_idle.set()

    async def ask(self, what: str, body: bytes) -> bytes:
        """Return the answer to a station's question; a problem document is raised as what it says.

        Raises:
            NotFoundError, RefusedError: the server says so. UnreachableError: it is away.
        """
        status, answer = await self.send(f"/api/v1/station/{what}", body, {})
        if status == HTTPStatus.OK:
            return answer
        raise read(partial(_error, status), answer)


def read(parse: Callable[[_Said], _Answer], body: _Said) -> _Answer:
    """Return what an answer, or a part of it, says; raises `UnreachableError` for what cannot be read."""
    try:
        return parse(body)
    except MalformedMessageError as error:
        raise UnreachableError(f"the server's answer cannot be read: {error}") from error


async def bounded(content: aiohttp.StreamReader) -> bytes:
    """Return a body to its end; of one that is too long, so much that it shows."""
    body = b""
    async for chunk in content.iter_chunked(MAX_BODY_BYTES):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return body


async def _road_to(server: Server, patience: timedelta) -> _Road:
    async with AsyncExitStack() as stack:
        http, base = await stack.enter_async_context(connected(server, patience=patience))
        own = {_STATION_HEADER: server.station} if isinstance(server, AdminSocket) else {}
        return _Road(http=http, base=base, headers=_JSON | own, stack=stack.pop_all())


def _explained(error: Exception, *, base: str) -> UnreachableError:
    """Return why nobody answered: TLS 1.3 tells a refusal with the first read (RFC 8446 4.4.2.4)."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", error.certificate_error)
        return UnreachableError(
            f"the server does not prove to be the fleet's: {why}",
            hint="--trust names the fleet's trust/server.pem; the host must be in its certificate",
        )
    is_ended = isinstance(error, aiohttp.ServerDisconnectedError) or isinstance(error.__cause__, _ENDED)
    if is_ended and base.startswith("https:"):
        return UnreachableError(
            "the server ended the connection, as it does over a certificate that it does not take",
            hint="has it ended, by the server's clock: fleet station renew --request",
        )
    return UnreachableError("the registration authority does not answer", hint="is `fleet serve` running")


def _error(status: int, body: bytes) -> FleetError:
    members = parse_object(body)
    detail = members.any_text("detail", longest=1000)
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(detail)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        code = members.any_text("code", longest=64) if "code" in members else ""
        known = code in frozenset(ProblemCode)
        return RefusedError(detail, code=ProblemCode(code) if known else ProblemCode.NOT_ALLOWED)
    return UnreachableError(f"the server says: {detail}")
