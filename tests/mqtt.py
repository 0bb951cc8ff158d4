"""A bare MQTT 3.1.1 client for tests: it shows what the broker answers, and does what real ones would not.

Every method waits for the broker, at most `PATIENCE_S`; nothing is retried or hidden.
"""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PATIENCE_S = 10.0
NOT_AUTHORISED = 5
REFUSED_SUBSCRIPTION = 0x80


class NotLetInError(Exception):
    """TLS did not let the client in, or the connection was closed before CONNACK."""


class ClosedError(Exception):
    """The broker closed the connection."""


@dataclass(frozen=True, kw_only=True)
class Message:
    topic: str
    body: bytes
    retained: bool = False


def client_context(
    *, trust: Path, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=trust)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


@dataclass(kw_only=True)
class MqttClient:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    messages: list[Message] = field(default_factory=list)
    next_id: int = 1

    @classmethod
    async def open(cls, context: ssl.SSLContext, *, port: int, host: str = "localhost") -> Self:
        """Do the TLS handshake only. That nobody listens is no refusal, and stays an OSError."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=context, server_hostname=host
                )
        except ConnectionRefusedError:
            raise
        except (OSError, ssl.SSLError) as error:
            raise NotLetInError(str(error)) from error
        return cls(reader=reader, writer=writer)

    async def connect(
        self,
        client_id: str,
        *,
        keepalive_s: int = 10,
        clean: bool = True,
        username: str | None = None,
        will: Message | None = None,
    ) -> int:
        """Send CONNECT and return the code of CONNACK; 0 is accepted."""
        flags = (0x02 if clean else 0) | (0x80 if username is not None else 0)
        payload = _text(client_id)
        if will is not None:
            flags |= 0x04 | (0x20 if will.retained else 0)
            payload += _text(will.topic) + len(will.body).to_bytes(2, "big") + will.body
        if username is not None:
            payload += _text(username)
        head = _text("MQTT") + bytes([4, flags]) + keepalive_s.to_bytes(2, "big")
        self._send(0x10, head + payload)
        try:
            kind, body = await self._packet()
        except ClosedError as error:
            raise NotLetInError(str(error)) from error
        assert kind == 0x20
        return body[1]

    async def connect_5(self, client_id: str, *, session_expiry_s: int, keepalive_s: int = 10) -> int:
        """Send a clean CONNECT of MQTT 5 (3.1) and return the reason code of CONNACK; 0 is accepted."""
        properties = bytes([0x11]) + session_expiry_s.to_bytes(4, "big")
        head = _text("MQTT") + bytes([5, 0x02]) + keepalive_s.to_bytes(2, "big")
        self._send(0x10, head + _length(len(properties)) + properties + _text(client_id))
        try:
            kind, body = await self._packet()
        except ClosedError as error:
            raise NotLetInError(str(error)) from error
        assert kind == 0x20
        return body[1]

    async def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """Return the codes of SUBACK; 0x80 is refused."""
        wanted = b"".join(_text(one) + bytes([qos]) for one in filters)
        self._send(0x82, self._id() + wanted)
        return list((await self._until(0x90))[2:])

    async def publish(self, topic: str, body: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish, and wait for PUBACK where there is one."""
        flags = 0x30 | qos << 1 | int(retain)
        self._send(flags, _text(topic) + (self._id() if qos else b"") + body)
        if qos:
            await self._until(0x40)

    async def ping(self) -> None:
        """Return when the broker has answered everything before."""
        self._send(0xC0, b"")
        await self._until(0xD0)

    async def receive(self) -> Message:
        """Return the next message."""
        while not self.messages:
            await self._step()
        return self.messages.pop(0)

    async def received(self) -> list[Message]:
        """Return what has arrived until now."""
        await self.ping()
        found, self.messages = self.messages, []
        return found

    async def wait_closed(self) -> None:
        """Return when the broker has closed the connection."""
        try:
            while True:
                await self._step()
        except ClosedError:
            return

    async def disconnect(self) -> None:
        self._send(0xE0, b"")
        await self.close()

    async def close(self) -> None:
        """Cut the connection, without a word."""
        self.writer.transport.abort()
        with suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()

    def session(self) -> ssl.SSLSession | None:
        """Return the TLS session, to resume it."""
        tls: ssl.SSLObject = self.writer.get_extra_info("ssl_object")
        return tls.session

    def _id(self) -> bytes:
        self.next_id += 1
        return self.next_id.to_bytes(2, "big")

    def _send(self, kind: int, body: bytes) -> None:
        self.writer.write(bytes([kind]) + _length(len(body)) + body)

    async def _until(self, wanted: int) -> bytes:
        while True:
            kind, body = await self._step()
            if kind == wanted:
                return body

    async def _step(self) -> tuple[int, bytes]:
        kind, body = await self._packet()
        if kind & 0xF0 == 0x30:
            self._take(kind, body)
        return kind, body

    def _take(self, kind: int, body: bytes) -> None:
        end = 2 + int.from_bytes(body[:2], "big")
        topic, rest = body[2:end].decode(), body[end:]
        if kind & 0x06:
            self._send(0x40, rest[:2])
            rest = rest[2:]
        self.messages.append(Message(topic=topic, body=rest, retained=bool(kind & 1)))

    async def _packet(self) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                kind = (await self.reader.readexactly(1))[0]
                length, shift = 0, 0
                while True:
                    byte = (await self.reader.readexactly(1))[0]
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    if byte < 0x80:
                        return kind, await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ClosedError(str(error)) from error


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
