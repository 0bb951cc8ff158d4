"""A small HTTP/1.1 client over asyncio and TLS (RFC 9112): one request a connection, bounded in size.

It never follows a redirect. How long to wait, and which headers to send, is its caller's to say.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from device_agent.channels.unreached import unreached
from device_agent.errors import ChannelError
from device_agent.wire.fields import MAX_BODY_BYTES
from device_agent.wire.messages import parse_reply
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import Reply
from device_agent.wire.requests import Request

_MAX_HEAD_BYTES = 16 * 1024
_MAX_ANSWER_BYTES = _MAX_HEAD_BYTES + MAX_BODY_BYTES
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?")
_FIELD = re.compile(rb"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,6})[ \t]*(?:;[^\r\n]*)?\r\n")
_JSON = MappingProxyType({"Accept": "application/json", "Content-Type": "application/json"})


class ClosedError(ChannelError):
    """The other end closed the connection instead of answering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; a reply of the wire contract, or not."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name; of several of a name the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request; `body` is made when the connection stands, and may look at it."""

    start: str
    """Method and path."""
    body: Callable[[ssl.SSLObject], bytes]
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end. Its methods raise `ChannelError`."""

    host: str
    port: int
    tls: ssl.SSLContext = field(repr=False)
    socket: Path | None = None
    """Where TLS to it is entered, if somebody else makes it."""

    def __str__(self) -> str:
        return f"https://{self.host}:{self.port}"

    async def get(self, path: str) -> Answer:
        """Ask for a path."""
        return await self.exchange(Call(start=f"GET {path}", body=lambda _tls: b"", headers=_JSON))

    async def post(self, path: str, body: bytes) -> Answer:
        """Post JSON to a path."""
        return await self.exchange(Call(start=f"POST {path}", body=lambda _tls: body, headers=_JSON))

    async def exchange(self, call: Call) -> Answer:
        """Make one call over one connection."""
        try:
            reader, writer = await self._connected()
        except (OSError, ValueError) as error:  # a ValueError: a server told of a host that can be none
            raise unreached(f"cannot reach {self}", error) from error
        try:
            body = call.body(writer.get_extra_info("ssl_object"))
            writer.write(self._head(call, len(body)) + body)
            return await self._read(reader)
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise _broken(error, self) from error
        finally:
            # Not awaited: a peer that never closes its side must not hold us.
            writer.transport.abort()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.socket is not None:
            return await asyncio.open_unix_connection(self.socket, limit=_MAX_ANSWER_BYTES)
        return await asyncio.open_connection(self.host, self.port, ssl=self.tls, limit=_MAX_ANSWER_BYTES)

    def _head(self, call: Call, length: int) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = (
            f"{call.start} HTTP/1.1",
            f"Host: {host}:{self.port}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in call.headers.items()),
            f"Content-Length: {length}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        head = await reader.readuntil(b"\r\n\r\n")
        status = _STATUS_LINE.match(head)
        if status is None or len(head) > _MAX_HEAD_BYTES:
            raise ChannelError(f"{self} does not speak HTTP/1.1")
        return Answer(status=int(status[1]), body=await self._body(reader, head), headers=_headers(head))

    async def _body(self, reader: asyncio.StreamReader, head: bytes) -> bytes:
        length, coding = _content_length(head), _headers(head).get("transfer-encoding")
        if coding is not None and coding.lower() == "chunked" and b"\r\ncontent-length:" not in head.lower():
            body = await _chunks(reader)
        elif coding is None and length is not None and length <= MAX_BODY_BYTES:
            return await reader.readexactly(length)
        else:
            body = None
        if body is None:
            raise ChannelError(f"{self} answered with more than {MAX_BODY_BYTES} bytes, or no length")
        return body


def reply_of(answer: Answer, request: Request, *, peer: Peer) -> Reply:
    """Return the reply to this very request; raises `ChannelError`."""
    try:
        reply = parse_reply(answer.body)
    except MalformedMessageError as error:
        raise ChannelError(f"{peer} answered {answer.status} and no message: {error}") from error
    if reply.id != request.id:
        raise ChannelError(f"{peer} answered to another request")
    return reply


def _broken(error: Exception, peer: Peer) -> ChannelError:
    """Tell a connection that was closed before a byte of the answer from one that broke within it."""
    # In TLS 1.3 this is how a client hears of its certificate; not every server sends the alert.
    if isinstance(error, asyncio.IncompleteReadError) and not error.partial:
        return ClosedError(f"{peer} closed the connection instead of answering")
    if isinstance(error, ConnectionResetError | ssl.SSLError):
        return ClosedError(f"{peer} ended the connection instead of answering")
    return ChannelError(f"the exchange with {peer} broke off")


def _content_length(head: bytes) -> int | None:
    """Return the one Content-Length (RFC 9112 6.3); None where it is absent, doubled or no number."""
    found = re.findall(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?=\r\n)", head.lower())
    return int(found[0]) if len(found) == 1 else None


def _headers(head: bytes) -> dict[str, str]:
    """Return the fields of a head (RFC 9110 5), by lower-case name."""
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(head):
        found.setdefault(name.decode().lower(), value.decode("latin-1"))
    return found


async def _chunks(reader: asyncio.StreamReader) -> bytes | None:
    """Read a body in chunks (RFC 9112 7.1); None where it is none, or too large."""
    body = b""
    while True:
        size = _CHUNK.fullmatch(await reader.readuntil(b"\r\n"))
        if size is None or len(body) + int(size[1], 16) > MAX_BODY_BYTES:
            return None
        if int(size[1], 16) == 0:
            return body
        body += await reader.readexactly(int(size[1], 16))
        if await reader.readexactly(2) != b"\r\n":
            return None
