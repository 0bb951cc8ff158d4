"""A small HTTP/1.1 client over asyncio and TLS (RFC 9112): one request a connection, bounded in size.

It never follows a redirect, and never sends a cookie or a password. How long to wait is its caller's.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass, field

from device_agent.errors import ChannelError
from device_agent.wire.fields import MAX_BODY_BYTES
from device_agent.wire.messages import parse_reply
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import Reply
from device_agent.wire.requests import Request

_MAX_HEAD_BYTES = 16 * 1024
_MAX_ANSWER_BYTES = _MAX_HEAD_BYTES + MAX_BODY_BYTES
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?")


class ClosedError(ChannelError):
    """The other end closed the connection instead of answering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; a reply of the wire contract, or not."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end. Its methods raise `ChannelError`."""

    host: str
    port: int
    tls: ssl.SSLContext = field(repr=False)

    def __str__(self) -> str:
        return f"https://{self.host}:{self.port}"

    async def get(self, path: str) -> Answer:
        """Ask for a path."""
        return await self._exchange(f"GET {path} HTTP/1.1", b"")

    async def post(self, path: str, body: bytes) -> Answer:
        """Post JSON to a path."""
        return await self._exchange(f"POST {path} HTTP/1.1", body)

    async def _exchange(self, start: str, body: bytes) -> Answer:
        try:
            reader, writer = await asyncio.open_connection(
                self.host, self.port, ssl=self.tls, limit=_MAX_ANSWER_BYTES
            )
        except (OSError, ssl.SSLError) as error:
            raise ChannelError(f"cannot reach {self}: {error}") from error
        try:
            writer.write(self._head(start, len(body)) + body)
            return await self._read(reader)
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise _broken(error, self) from error
        finally:
            # Not awaited: a peer that never closes its side must not hold us.
            writer.transport.abort()

    def _head(self, start: str, length: int) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = (
            start,
            f"Host: {host}:{self.port}",
            "Connection: close",
            "Accept: application/json",
            "Content-Type: application/json",
            f"Content-Length: {length}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        head = await reader.readuntil(b"\r\n\r\n")
        status = _STATUS_LINE.match(head)
        if status is None or len(head) > _MAX_HEAD_BYTES:
            raise ChannelError(f"{self} does not speak HTTP/1.1")
        length = _content_length(head)
        if length is None or length > MAX_BODY_BYTES:
            raise ChannelError(f"{self} answered with more than {MAX_BODY_BYTES} bytes, or no length")
        return Answer(status=int(status[1]), body=await reader.readexactly(length))


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
