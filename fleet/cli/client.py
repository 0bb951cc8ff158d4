"""Talks to the fleet's API: over the home's socket, or with a service started for this one command.

It is HTTP in both cases, so that a command does the same with and without a running server. It never
opens the store, and never prints.
"""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

from fleet.cli.codes import code_of
from fleet.cli.output import Json, Members
from fleet.cli.remote import Remote, Server
from fleet.errors import EXIT_CODES, ExitCode, FleetError, RefusedError, UnreachableError
from fleet.home import Home, open_home

_Result = TypeVar("_Result")

ANSWER_SECONDS = 120.0
"""A bulk revocation waits for every broker; everything else answers at once."""

_KEY_HEADER = "Idempotency-Key"
_CODE_HEADER = "Fleet-Code"
_PAUSES = (0.2, 1.0, 3.0)
"""Seconds before an act whose answer was lost on the way is asked for again, under the same key."""


class _CodeNeededError(RefusedError):
    """The act needs a code of the operator's second factor, and none was sent with it."""


class _UnderwayError(http.client.HTTPException):
    """The server is still at work on this act, which it was asked for on a connection that broke."""


_LOST = (
    http.client.RemoteDisconnected,
    http.client.IncompleteRead,
    ConnectionResetError,
    BrokenPipeError,
    _UnderwayError,
)

_ERRORS = {code: kind for kind, code in reversed(EXIT_CODES.items()) if code is not ExitCode.FAILED} | {
    ExitCode.FAILED: FleetError
}


class _SocketConnection(http.client.HTTPConnection):
    """HTTP/1.1 over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("fleet", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """The routes of the API; each call is one request."""

    def __init__(self, place: Path | Server) -> None:
        self._place = place
        self._code: str | None = None

    def get(self, *parts: str, **query: str | int | None) -> Members:
        """Return the object behind a path."""
        return self._object("GET", address_of(parts, query), None)

    def post(self, *parts: str, body: Members) -> Members:
        """Do what a path is for, return what came of it."""
        return self._object("POST", address_of(parts, {}), json.dumps(body).encode())

    def post_text(self, *parts: str, body: bytes, **query: str | int | None) -> Members:
        """Hand in a file."""
        return self._object("POST", address_of(parts, query), body)

    def post_for_text(self, *parts: str, body: Members) -> str:
        """Do what a path is for, return the document that came of it."""
        return self._call("POST", address_of(parts, {}), json.dumps(body).encode()).decode()

    def text(self, *parts: str, **query: str | int | None) -> str:
        """Return a document that is text."""
        return self._call("GET", address_of(parts, query), None).decode()

    def items(self, *parts: str, limit: int | None = None, **query: str | int | None) -> Iterator[Members]:
        """Yield the objects of a list, page after page, at most `limit`."""
        cursor: str | None = None
        left = limit
        while True:
            page = self.get(*parts, **query, after=cursor, limit=None if left is None else min(left, 1000))
            found = page.get("items")
            assert isinstance(found, list)  # noqa: S101 - our own server's answer
            yield from found[:left]
            left = None if left is None else left - len(found)
            following = page.get("next")
            if not isinstance(following, str) or (left is not None and left <= 0):
                return
            cursor = following

    def lines(self, *parts: str, **query: str | int | None) -> Iterator[bytes]:
        """Yield the lines of a document that may be long."""
        connection, response = self._open("GET", address_of(parts, query), None)
        try:
            yield from response
        except (OSError, http.client.HTTPException) as error:
            raise self._explained(error) from error
        finally:
            connection.close()

    def _object(self, method: str, address: str, body: bytes | None) -> Members:
        found: Json = json.loads(self._call(method, address, body))
        assert isinstance(found, dict)  # noqa: S101 - our own server's answer
        return found

    def _call(self, method: str, address: str, body: bytes | None) -> bytes:
        """Return what is answered; over a network, an answer that was lost is asked for again."""
        key = uuid4().hex if method == "POST" and isinstance(self._place, Server) else None
        pauses = iter(() if key is None else _PAUSES)
        while True:
            try:
                return self._read(method, address, body, key)
            except _CodeNeededError:
                self._code = self._ask_code()
            except FleetError as error:
                pause = next(pauses, None)
                if pause is None or not isinstance(error.__cause__, _LOST):
                    raise
                time.sleep(pause)

    def _read(self, method: str, address: str, body: bytes | None, key: str | None) -> bytes:
        connection, response = self._open(method, address, body, key)
        try:
            return response.read()
        except http.client.IncompleteRead as error:
            raise self._explained(error) from error
        finally:
            connection.close()

    def _open(
        self, method: str, address: str, body: bytes | None, key: str | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection()
        headers = {"Content-Type": "application/json"} | ({} if key is None else {_KEY_HEADER: key})
        if self._code is not None and method == "POST":
            headers[_CODE_HEADER], self._code = self._code, None
        try:
            connection.request(method, address, body, headers)
            response = connection.getresponse()
            if response.status == http.client.CONFLICT and "Retry-After" in response.headers:
                raise _UnderwayError("it is at work on this")
            if response.status >= http.client.BAD_REQUEST:
                refusal = response.read()
                connection.close()
                raise self._refusal(response, refusal)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._explained(error) from error
        return connection, response

    def _refusal(self, response: http.client.HTTPResponse, body: bytes) -> FleetError:
        error = error_of(response.status, body)
        can_answer = isinstance(self._place, Remote) and response.headers.get(_CODE_HEADER) == "needed"
        return _CodeNeededError(str(error), hint=error.hint) if can_answer else error

    def _ask_code(self) -> str:
        assert isinstance(self._place, Remote)  # noqa: S101 - nobody else is asked
        return code_of(self._place.code_file)

    def _connection(self) -> http.client.HTTPConnection:
        if isinstance(self._place, Server):
            return self._place.connection(ANSWER_SECONDS)
        return _SocketConnection(self._place)

    def _explained(self, error: Exception) -> FleetError:
        if isinstance(self._place, Server):
            return self._place.explain(error)
        return UnreachableError(
            f"the server of this home does not answer: {str(error).lower() or 'no answer'}",
            hint="see the log of fleet serve",
        )


def with_client(home: Path | Server, act: Callable[[Client], _Result]) -> _Result:
    """Do something with a server elsewhere, with the home's, or with one that lives as long as that.

    Raises:
        NotFoundError: there is no home.
        FleetError: what the server said.
    """
    if isinstance(home, Server):
        return act(Client(home))
    place = open_home(home)
    if _answers(place.admin_socket):
        return act(Client(place.admin_socket))
    return asyncio.run(_within(place, act))


def is_served(home: Home) -> bool:
    """Return whether a server of this home answers."""
    return _answers(home.admin_socket)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


async def _within(home: Home, act: Callable[[Client], _Result]) -> _Result:
    from fleet.service import Listeners, running  # noqa: PLC0415 - the whole server, needed here only

    async with running(home.root, listeners=Listeners.ADMIN_ONLY) as service:
        return await asyncio.to_thread(act, Client(service.admin_socket))


def address_of(parts: tuple[str, ...], query: Mapping[str, str | int | None]) -> str:
    """Return the address of a route; no part can become two."""
    path = "/".join(quote(part, safe="") for part in parts)
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    return f"/api/v1/{path}" + (f"?{asked}" if asked else "")


_BY_STATUS = {
    400: ExitCode.BAD_INPUT,
    401: ExitCode.REFUSED,
    403: ExitCode.REFUSED,
    404: ExitCode.NOT_FOUND,
    413: ExitCode.BAD_INPUT,
    422: ExitCode.BAD_INPUT,
}
"""For documents that name no exit code: those of what could not even be read."""


def error_of(status: int, body: bytes) -> FleetError:
    """Return the error behind a problem document (RFC 9457)."""
    try:
        document = json.loads(body)
        otherwise = _BY_STATUS.get(status, ExitCode.FAILED)
        detail, hint, code = document["detail"], document.get("hint"), document.get("exit", otherwise)
        return _ERRORS[ExitCode(code)](str(detail), hint=None if hint is None else str(hint))
    except (ValueError, KeyError, TypeError, AttributeError):
        return FleetError(f"the server answered {status}, which this command does not expect")
