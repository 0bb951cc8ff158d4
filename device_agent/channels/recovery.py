"""HTTPS to the recovery listener: no client certificate, a signature over a fresh nonce instead.

A small HTTP/1.1 client over asyncio (RFC 9112): one request a connection, bounded in size and time. It
never follows a redirect, never sends a cookie or a password, and never shows its certificate in TLS.
"""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from device_agent.errors import ChannelError
from device_agent.ports import RecoveryLogin
from device_agent.wire.fields import MAX_BODY_BYTES, parse_object
from device_agent.wire.messages import encode, parse_reply
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.proofs import recovery_text
from device_agent.wire.replies import Reply
from device_agent.wire.requests import Request

_MAX_HEAD_BYTES = 16 * 1024
_MAX_ANSWER_BYTES = _MAX_HEAD_BYTES + MAX_BODY_BYTES
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?")
_NONCE_PATH = "/api/v1/nonce"
_RECOVER_PATH = "/api/v1/recover"
_LONGEST_NONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    body: bytes


class RecoveryAsker:
    """Asks at the recovery listener; each request is a connection and a proof of its own."""

    def __init__(self, login: RecoveryLogin, *, reply_timeout: timedelta) -> None:
        self._login, self._timeout = login, reply_timeout

    async def ask(self, request: Request) -> Reply:
        """Return the reply to this very request; raises `ChannelError`."""
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                answer = await self._post(_RECOVER_PATH, await self._proof(encode(request)))
        except TimeoutError as error:
            raise ChannelError(f"no reply to {request.kind} in time from {self._peer}") from error
        try:
            reply = parse_reply(answer.body)
        except MalformedMessageError as error:
            raise ChannelError(f"{self._peer} answered {answer.status} and no message: {error}") from error
        if reply.id != request.id:
            raise ChannelError(f"{self._peer} answered to another request")
        return reply

    @property
    def _peer(self) -> str:
        return f"https://{self._login.host}:{self._login.port}"

    async def _proof(self, request: bytes) -> bytes:
        login = self._login
        nonce = await self._nonce()
        text = recovery_text(fleet=login.fleet, domain=login.domain, nonce=nonce, request=request)
        proof = {
            "request": base64.b64encode(request).decode(),
            "certificate": login.certificate,
            "nonce": nonce,
            "signature": base64.b64encode(login.sign(text)).decode(),
        }
        return json.dumps(proof).encode()

    async def _nonce(self) -> str:
        answer = await self._exchange(f"GET {_NONCE_PATH} HTTP/1.1", b"")
        try:
            return parse_object(answer.body).text("nonce", longest=_LONGEST_NONCE)
        except MalformedMessageError as error:
            raise ChannelError(f"{self._peer} answered {answer.status} and no nonce") from error

    async def _post(self, path: str, body: bytes) -> _Answer:
        return await self._exchange(f"POST {path} HTTP/1.1", body)

    async def _exchange(self, start: str, body: bytes) -> _Answer:
        login = self._login
        try:
            reader, writer = await asyncio.open_connection(
                login.host, login.port, ssl=login.tls, limit=_MAX_ANSWER_BYTES
            )
        except (OSError, ssl.SSLError) as error:
            raise ChannelError(f"cannot reach {self._peer}: {error}") from error
        try:
            writer.write(self._head(start, len(body)) + body)
            return await self._read(reader)
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise ChannelError(f"the exchange with {self._peer} broke off") from error
        finally:
            # Not awaited: a peer that never closes its side must not hold us.
            writer.transport.abort()

    def _head(self, start: str, length: int) -> bytes:
        host = f"[{self._login.host}]" if ":" in self._login.host else self._login.host
        lines = (
            start,
            f"Host: {host}:{self._login.port}",
            "Connection: close",
            "Accept: application/json",
            "Content-Type: application/json",
            f"Content-Length: {length}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    async def _read(self, reader: asyncio.StreamReader) -> _Answer:
        head = await reader.readuntil(b"\r\n\r\n")
        status = _STATUS_LINE.match(head)
        if status is None or len(head) > _MAX_HEAD_BYTES:
            raise ChannelError(f"{self._peer} does not speak HTTP/1.1")
        length = _content_length(head)
        if length is None or length > MAX_BODY_BYTES:
            raise ChannelError(f"{self._peer} answered with more than {MAX_BODY_BYTES} bytes, or no length")
        return _Answer(status=int(status[1]), body=await reader.readexactly(length))


def _content_length(head: bytes) -> int | None:
    """Return the one Content-Length (RFC 9112 6.3); None where it is absent, doubled or no number."""
    found = re.findall(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?=\r\n)", head.lower())
    return int(found[0]) if len(found) == 1 else None


@asynccontextmanager
async def recovery_asker(login: RecoveryLogin, *, reply_timeout: timedelta) -> AsyncIterator[RecoveryAsker]:
    """Return the asker; nothing is connected before it is asked."""
    yield RecoveryAsker(login, reply_timeout=reply_timeout)
