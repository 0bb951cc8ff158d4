"""Binds the listeners before anything is started, and serves applications on them.

A port that cannot be had is told in one sentence; nothing is half open when a start fails.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from fleet.errors import BadInputError, UnreachableError

_BACKLOG = 1024
_HANDSHAKE_SECONDS = 10
_IDLE_SECONDS = 30
_SHUTDOWN_SECONDS = 5


def bind(address: str, port: int, *, key: str) -> socket.socket:
    """Return a listening socket; `key` is its name in fleet.toml, for the hint.

    Raises:
        UnreachableError: the port is taken, or the address is not of this machine.
        BadInputError: the port needs rights that the server has not.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _bind_error(error, place=f"{address}:{port}", key=key) from error
    return listener


def bind_unix(path: Path) -> socket.socket:
    """Return a listening socket in the home that its owner alone can open (0600).

    Raises:
        BadInputError: the folder cannot be written, or the path is too long for a socket.
    """
    path.unlink(missing_ok=True)  # the caller holds the home's lock: nobody listens there
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)  # before it listens: until then nobody can connect
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise BadInputError(
            f"{path} cannot be made: {error.strerror or error}",
            hint="a socket's path has at most 107 bytes; use a shorter --home" if not error.errno else None,
        ) from error
    return listener


def _bind_error(error: OSError, *, place: str, key: str) -> UnreachableError | BadInputError:
    match error.errno:
        case errno.EADDRINUSE:
            return UnreachableError(
                f"{place} is in use",
                hint=f"stop the other program, or set {key} in fleet.toml (0: any free port)",
            )
        case errno.EADDRNOTAVAIL:
            return BadInputError(f"{place} is no address of this machine", hint="set bind in fleet.toml")
        case errno.EACCES:
            return BadInputError(
                f"{place} needs more rights", hint=f"set {key} in fleet.toml to 1024 or above"
            )
        case _:
            return UnreachableError(
                f"{place} cannot be opened: {error.strerror}", hint=f"see {key} in fleet.toml"
            )


async def _without_server(_request: web.Request, response: web.StreamResponse) -> None:
    """Tell nobody which library of which version answers (RFC 9110 10.2.4)."""
    response.headers.pop("Server", None)


@asynccontextmanager
async def serving(
    app: web.Application, listener: socket.socket, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serve an application on a bound socket; on the way out, let running requests end."""
    app.on_response_prepare.append(_without_server)
    # Nobody compresses requests to us: a body that says so is not unpacked, however small it looks.
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=_IDLE_SECONDS, auto_decompress=False)
    await runner.setup()
    loop = asyncio.get_running_loop()
    assert runner.server is not None  # noqa: S101 - set up one line above
    handshake = None if tls is None else _HANDSHAKE_SECONDS
    server = await loop.create_server(runner.server, sock=listener, ssl=tls, ssl_handshake_timeout=handshake)
    try:
        yield
    finally:
        server.close()
        await runner.shutdown()
        await runner.server.shutdown(_SHUTDOWN_SECONDS)
        await runner.cleanup()
