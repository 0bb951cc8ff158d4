"""MQTT 3.1.1 for one simulated device, over TLS on the event loop: no thread, no queue, no retry.

It says what the agent's own adapter says (`device_agent.channels.mqtt`), and raises what that raises.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from device_agent.errors import ChannelError, NotAdmittedError
from device_agent.ports import Listener
from device_agent.wire.messages import encode, parse_reply
from device_agent.wire.replies import Reply
from device_agent.wire.requests import Request

_T = TypeVar("_T")
CONNECT_SECONDS = 30.0
REPLY_SECONDS = 60.0
KEEPALIVE_SECONDS = 600
_PINGREQ, _DISCONNECT = bytes([0xC0, 0]), bytes([0xE0, 0])
_NOT_AUTHORIZED = (4, 5)
"""CONNACK's return codes (MQTT 3.1.1 3.2.2.3)."""
_REFUSED = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Whom to connect to, as whom."""

    host: str
    port: int
    client_id: str
    request_topic: str
    response_topic: str
    tls: ssl.SSLContext
    is_lasting: bool = False
    """The broker keeps the session between connections."""
    keepalive: int = KEEPALIVE_SECONDS


class LightLink(asyncio.Protocol):
    """One connection. Made by `light_link`."""

    def __init__(self, login: Login, listener: Listener | None) -> None:
        self._login, self._listener = login, listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = b""
        self._next_id = 0
        self._admitted: asyncio.Future[int] = self._loop.create_future()
        self._acked: dict[int, asyncio.Future[bytes]] = {}
        self._asked: dict[str, asyncio.Future[Reply]] = {}
        self._pinging: asyncio.TimerHandle | None = None

    async def ask(self, request: Request) -> Reply:
        """Return the reply to this very request; raises `ChannelError`."""
        waiting: asyncio.Future[Reply] = self._loop.create_future()
        self._asked[request.id] = waiting
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                await self.publish(self._login.request_topic, encode(request))
                return await waiting
        except TimeoutError as error:
            raise ChannelError(f"no reply to {request.kind} in time") from error
        finally:
            del self._asked[request.id]

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return once the broker has the message (QoS 1); raises `ChannelError`."""
        await self._acknowledged(0x32 | retain, _text(topic), payload)

    async def subscribe(self, topic_filter: str) -> None:
        """Return once the subscription stands (QoS 1); raises `ChannelError`."""
        granted = await self._acknowledged(0x82, b"", _text(topic_filter) + b"\x01")
        if any(code >= _REFUSED for code in granted):
            raise ChannelError(f"the broker does not let this device subscribe to {topic_filter}")

    async def open(self) -> None:
        """Wait until the broker has accepted; raises `NotAdmittedError` where it does not."""
        code = await self._admitted
        if code in _NOT_AUTHORIZED:
            raise NotAdmittedError("the broker does not admit this device now")
        if code:
            raise ChannelError(f"the broker refused the connection: {code}")
        await self.subscribe(self._login.response_topic)

    def close(self) -> None:
        """Disconnect."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_DISCONNECT)
            self._transport.close()

    def abort(self) -> None:
        """Be gone, without a word."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        login = self._login
        flags = 0 if login.is_lasting else 0x02
        head = _text("MQTT") + bytes([4, flags]) + login.keepalive.to_bytes(2, "big")
        self._send(0x10, head + _text(login.client_id))
        self._pinging = self._loop.call_later(login.keepalive * 0.75, self._ping)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (packet := _first(self._buffer)) is not None:
            kind, body, self._buffer = packet
            self._take(kind, body)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pinging is not None:
            self._pinging.cancel()
        if not self._admitted.done():
            # As a certificate ends in TLS that expired: with no CONNACK.
            self._admitted.set_exception(NotAdmittedError("the broker closed before it accepted"))
            self._admitted.exception()
        _end(self._acked.values())
        _end(self._asked.values())
        if self._listener is not None:
            self._listener.lost("closed" if exc is None else str(exc))

    def _take(self, kind: int, body: bytes) -> None:
        match kind & 0xF0:
            case 0x20 if not self._admitted.done():
                self._admitted.set_result(body[1])
            case 0x40 | 0x90:
                waiting = self._acked.get(int.from_bytes(body[:2], "big"))
                if waiting is not None and not waiting.done():
                    waiting.set_result(body[2:])
            case 0x30:
                self._hear(kind, body)

    def _hear(self, kind: int, body: bytes) -> None:
        end = 2 + int.from_bytes(body[:2], "big")
        topic, payload = body[2:end].decode(), body[end:]
        if kind & 0x06:
            self._send(0x40, payload[:2])
            payload = payload[2:]
        if topic != self._login.response_topic:
            if self._listener is not None:
                self._listener.message(topic, payload)
            return
        reply = parse_reply(payload)
        waiting = self._asked.get(reply.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    async def _acknowledged(self, kind: int, before: bytes, after: bytes) -> bytes:
        if self._transport is None or self._transport.is_closing():
            raise ChannelError("the connection ended")
        self._next_id = self._next_id % 0xFFFF + 1
        number = self._next_id
        waiting: asyncio.Future[bytes] = self._loop.create_future()
        self._acked[number] = waiting
        self._send(kind, before + number.to_bytes(2, "big") + after)
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                return await waiting
        except TimeoutError as error:
            raise ChannelError("the broker does not acknowledge") from error
        finally:
            del self._acked[number]

    def _ping(self) -> None:
        if self._transport is not None:
            self._transport.write(_PINGREQ)
            self._pinging = self._loop.call_later(self._login.keepalive * 0.75, self._ping)

    def _send(self, kind: int, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(bytes([kind]) + _length(len(body)) + body)


@asynccontextmanager
async def light_link(login: Login, listener: Listener | None = None) -> AsyncIterator[LightLink]:
    """Connect; raises `ChannelError`, `NotAdmittedError`."""
    link = LightLink(login, listener)
    try:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().create_connection(
                    lambda: link, _address(login.host), login.port, ssl=login.tls, server_hostname=login.host
                )
                await link.open()
        except (OSError, TimeoutError) as error:
            raise ChannelError(f"cannot connect to {login.host}:{login.port}: {error}") from error
        yield link
    finally:
        link.close()


def _end(waiting: Iterable[asyncio.Future[_T]]) -> None:
    for one in waiting:
        if not one.done():
            one.set_exception(ChannelError("the connection ended"))


def _address(host: str) -> str:
    """Name loopback by its number: a resolver would take a thread for each connection."""
    return "127.0.0.1" if host == "localhost" else host


def _first(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return a packet's first octet and its body, and what follows; None where it is not all there."""
    length = shift = 0
    for place in range(1, min(len(data), 5)):
        length |= (data[place] & 0x7F) << shift
        shift += 7
        if data[place] < 0x80:
            end = place + 1 + length
            return (data[0], data[place + 1 : end], data[end:]) if len(data) >= end else None
    return None


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _length(length: int) -> bytes:
    found = b""
    while True:
        length, low = divmod(length, 128)
        found += bytes([low | (0x80 if length else 0)])
        if not length:
            return found
