"""The running agent's own door: a 0600 unix socket in the state folder, one JSON line each way.

Whoever can open it may already read the state folder; it tells no secret all the same.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from device_agent.errors import AgentError, ChannelError, ExitCode, StateError, exit_code
from device_agent.wire.fields import Fields, parse_object
from device_agent.wire.problems import MalformedMessageError

_log = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024
_CLIENT_SECONDS = 150.0
_SERVER_SECONDS = 10.0

Act = Callable[[Fields], Awaitable[Mapping[str, object]]]
"""Does something; it gets the members of what was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a running agent answered; `exit_code` is not 0 where it could not do it."""

    members: Mapping[str, object]
    exit_code: ExitCode
    error: str = ""
    hint: str | None = None


@asynccontextmanager
async def serving(path: Path, acts: Mapping[str, Act]) -> AsyncIterator[None]:
    """Answer on the socket while the body runs.

    Raises:
        StateError: the socket cannot be made.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SERVER_SECONDS):
                line = await reader.readuntil(b"\n")
            writer.write(json.dumps(await _answer(line, acts)).encode() + b"\n")
            await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
            _log.info("a caller on %s went away: %s", path, error)
        finally:
            writer.close()

    with listening(path) as listener:
        server = await asyncio.start_unix_server(serve, sock=listener, limit=_MOST_BYTES)
        async with server:
            yield


def ask(path: Path, act: str, members: Mapping[str, object] = MappingProxyType({})) -> Told | None:
    """Ask the running agent to do something, with what it needs for it; None where none runs.

    Raises:
        ChannelError: it runs and does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(_CLIENT_SECONDS)
        try:
            with _short(path) as short:
                caller.connect(short)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            hint = "run it as the owner of the state folder" if isinstance(error, PermissionError) else None
            raise ChannelError(f"cannot ask the running agent at {path}: {reason}", hint=hint) from error
        try:
            caller.sendall(json.dumps({"do": act, **members}).encode() + b"\n")
            with caller.makefile("rb") as answer:
                return _told(answer.readline(_MOST_BYTES))
        except (OSError, MalformedMessageError) as error:
            raise ChannelError(f"the running agent at {path} did not answer") from error


async def _answer(line: bytes, acts: Mapping[str, Act]) -> dict[str, object]:
    try:
        fields = parse_object(line)
        wanted = fields.text("do", longest=32)
        if wanted not in acts:
            return {"error": "no such act", "exit": ExitCode.USAGE.value}
        return {"exit": ExitCode.DONE.value, "result": dict(await acts[wanted](fields))}
    except MalformedMessageError as error:
        return {"error": str(error), "exit": ExitCode.BAD_INPUT.value}
    except AgentError as error:
        return {"error": str(error), "hint": error.hint, "exit": exit_code(error).value}


def _told(line: bytes) -> Told:
    fields = parse_object(line)
    code = ExitCode(fields.integer("exit", lowest=0, highest=max(ExitCode)))
    if code is not ExitCode.DONE:
        hint = fields.text("hint", longest=1024) if "hint" in fields else None
        return Told(members={}, exit_code=code, error=fields.text("error", longest=4096), hint=hint)
    result = json.loads(line)["result"]
    return Told(members=result, exit_code=code)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Give a socket that its owner alone can open; raises `StateError`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as short:
            # Under the lock of the state folder: a socket that is there is a dead agent's.
            if path.is_socket():
                path.unlink()
            listener.bind(short)
            path.chmod(0o600)
            # Who sees the socket can connect from here on, and waits until somebody serves.
            listener.listen()
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        hint = "its folder must be there and writable, and nothing else have its name"
        raise StateError(f"cannot make the socket {path}: {reason}", hint=hint) from error
    try:
        yield listener
    finally:
        listener.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a path that fits into a socket address, which takes 107 bytes (unix(7))."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
