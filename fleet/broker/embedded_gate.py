"""The doors of the embedded broker: TLS with a certificate, then a CONNECT that is judged before all else.

Nobody reaches the engine unjudged: amqtt changes sessions before it would have asked.
"""

import asyncio
import logging
import socket
import ssl
import struct
from contextlib import suppress
from functools import partial

from amqtt.adapters import BufferReader, ReaderAdapter, WriterAdapter
from amqtt.mqtt.connect import ConnectPacket

from fleet.broker.adopted import joined
from fleet.broker.embedded_engine import BAD_PACKETS, Engine
from fleet.broker.embedded_table import Knock, Table
from fleet.broker.settings import BrokerFiles
from fleet.broker.shown import read_shown
from fleet.core.access import Who
from fleet.core.causes import Cause
from fleet.errors import FleetError, UnreachableError
from fleet.home import KeyPairFiles
from fleet.pair_files import in_force
from fleet.tls_refusals import noting, watch

_BACKLOG = 1024
LARGEST_PACKET = 1024 * 1024
_LARGEST_CONNECT = 64 * 1024
_MOST_UNSENT = 16 * 1024 * 1024
_PATIENCE_S = 10.0
_NOT_AUTHORISED = b"\x20\x02\x00\x05"
"""CONNACK with return code 5 (MQTT 3.1.1 3.2.2.3)."""

_ENDINGS: tuple[type[Exception], ...] = (OSError, TimeoutError, EOFError, *BAD_PACKETS)
"""How connections of strangers end, which is no fault of ours."""

_log = logging.getLogger(__name__)


class _Reader(ReaderAdapter):  # type: ignore[misc]  # amqtt ships no types
    """Gives the engine the CONNECT that the gate has read, then the rest, within its bounds."""

    def __init__(self, first: bytes, stream: asyncio.StreamReader, *, keepalive_s: int) -> None:
        self._first = first
        self._stream = stream
        # MQTT 3.1.1 3.1.2.10: silence of one and a half times the keep-alive ends a connection.
        self._patience_s = keepalive_s * 1.5 or None

    async def read(self, n: int = -1) -> bytes:
        if self._first:
            taken, self._first = self._first[:n], self._first[n:]
            return taken
        if not 0 <= n <= LARGEST_PACKET:
            raise ConnectionResetError("a packet larger than allowed")
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._stream.readexactly(n)
        except TimeoutError as error:
            raise ConnectionResetError("silent for too long") from error

    def feed_eof(self) -> None:
        self._stream.feed_eof()


def _abort(transport: asyncio.WriteTransport) -> None:
    """End a connection at once."""
    # Python 3.11.2, which Debian 12 has, forgets the connection of a TLS transport that was closed twice.
    with suppress(AttributeError):
        transport.abort()


class _Writer(WriterAdapter):  # type: ignore[misc]  # amqtt ships no types
    """Sends without waiting for slow peers; one that takes nothing is cut off."""

    def __init__(self, stream: asyncio.StreamWriter) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        transport = self._stream.transport
        if transport.is_closing():
            return
        self._stream.write(data)
        if transport.get_write_buffer_size() > _MOST_UNSENT:
            _abort(transport)

    async def drain(self) -> None:
        return

    def get_peer_info(self) -> tuple[str, int]:
        return _peer_of(self._stream)

    def get_ssl_info(self) -> None:
        return

    async def close(self) -> None:
        if not self._stream.transport.is_closing():
            self._stream.close()


class Gate:
    """Both listeners."""

    def __init__(self, table: Table, engine: Engine) -> None:
        self._table = table
        self._engine = engine
        self._servers: list[asyncio.Server] = []
        self._doors: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def listen(self, context: ssl.SSLContext, *, bind: str, port: int) -> int:
        """Open a listener and return its port.

        Raises:
            UnreachableError: somebody else has the port.
        """
        watch(context, self._refused_by_tls)
        try:
            listener = noting(socket.create_server((bind, port), family=_family(bind), backlog=_BACKLOG))
            listener.setblocking(False)
            server = await asyncio.start_server(
                self._knock, sock=listener, ssl=context, ssl_handshake_timeout=_PATIENCE_S
            )
        except OSError as error:
            raise UnreachableError(
                f"port {port} on {bind} cannot be used: {(error.strerror or 'error').lower()}",
                hint="stop what listens there, or set mqtt_port, mqtt_bootstrap_port in fleet.toml (0: any)",
            ) from error
        self._servers.append(server)
        found: int = server.sockets[0].getsockname()[1]
        return found

    async def close(self) -> None:
        """Close the listeners and every connection, and return when all are cleared away."""
        for server in self._servers:
            server.close()
        for connection in self._table.live:
            connection.end("")
        while self._doors:
            for writer in self._doors.values():
                _abort(writer.transport)
            await asyncio.wait(self._doors, timeout=_PATIENCE_S)

    def _refused_by_tls(self, cause: Cause, address: str) -> None:
        self._table.refuse(
            Knock(shown=None, client_id="", keepalive_s=0, clean_session=True, address=address), cause.value
        )

    async def _knock(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._doors[task] = writer
        try:
            await self._judge(reader, writer)
        except _ENDINGS as error:
            _log.info("a connection of %s ended: %s", _peer_of(writer)[0], type(error).__name__)
        finally:
            _abort(writer.transport)
            del self._doors[task]

    async def _judge(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            first = await _read_packet(reader, longest=_LARGEST_CONNECT)
        knock = await _read_connect(first, writer)
        who = self._table.judge(knock)
        if isinstance(who, Who):
            who = await self._make_way(who, knock)
        if isinstance(who, str):
            self._table.refuse(knock, who)
            await _send_off(writer)
            return
        connection = self._table.admit(who, knock, cut=partial(_abort, writer.transport))
        try:
            adapters = _Reader(first, reader, keepalive_s=knock.keepalive_s), _Writer(writer)
            await self._engine.serve(connection, *adapters)
        finally:
            self._table.forget(connection)

    async def _make_way(self, who: Who, knock: Knock) -> Who | str:
        """End the connection before with this client id, and judge again once it is gone."""
        judged: Who | str = who
        while isinstance(judged, Who):
            before = self._table.find(judged.client_id)
            if before is None:
                break
            before.end("replaced")
            await before.gone.wait()
            judged = self._table.judge(knock)
        return judged


def operational_context(files: BrokerFiles) -> ssl.SSLContext:
    """Return TLS for the operational listener; raises `FleetError`."""
    adopted = None if files.adopted is None else files.adopted.authorities
    return _server_context(files, joined(files.operational_roots, adopted))


def bootstrap_context(files: BrokerFiles) -> ssl.SSLContext:
    """Return TLS for the bootstrap listener; raises `FleetError`."""
    return _server_context(files, joined(files.bootstrap_roots, None))


def _server_context(files: BrokerFiles, roots: bytes) -> ssl.SSLContext:
    """Return TLS 1.2 or later with a client certificate under one of these roots, or no connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    pair = in_force(KeyPairFiles(certificate=files.certificate, key=files.key))
    try:
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(cadata=roots.decode("ascii", "replace"))
    except (OSError, ssl.SSLError) as error:
        raise FleetError(
            f"the broker's certificate or roots cannot be used: {files.certificate}",
            hint="restore them from a backup of the fleet home",
        ) from error
    return context


async def _read_packet(reader: asyncio.StreamReader, *, longest: int) -> bytes:
    """Read one MQTT packet, whole (MQTT 3.1.1 2.2)."""
    head = await reader.readexactly(2)
    length, shift = head[1] & 0x7F, 7
    while head[-1] & 0x80:
        if shift > 21:
            raise ConnectionResetError("a length that is none")
        head += await reader.readexactly(1)
        length |= (head[-1] & 0x7F) << shift
        shift += 7
    if length > longest:
        raise ConnectionResetError("a packet larger than allowed")
    return head + await reader.readexactly(length)


async def _read_connect(packet: bytes, writer: asyncio.StreamWriter) -> Knock:
    """Read who knocks: the same reading as the engine's, so that both see one client id."""
    if packet[0] != 0x10:
        raise ConnectionResetError("the first packet is no CONNECT")
    try:
        connect = await ConnectPacket.from_stream(BufferReader(packet))
        client_id, keepalive_s = str(connect.client_id or ""), int(connect.keep_alive)
        clean_session = bool(connect.clean_session_flag)
    except (ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise ConnectionResetError("a CONNECT that cannot be read") from error
    tls = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
    return Knock(
        shown=read_shown(der) if der else None,
        client_id=client_id,
        keepalive_s=keepalive_s,
        clean_session=clean_session,
        address=_peer_of(writer)[0],
    )


def _family(bind: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in bind else socket.AF_INET


async def _send_off(writer: asyncio.StreamWriter) -> None:
    """Say why, as far as MQTT has a word for it, and close in order."""
    writer.write(_NOT_AUTHORISED)
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            await writer.wait_closed()


def _peer_of(writer: asyncio.StreamWriter) -> tuple[str, int]:
    peer = writer.get_extra_info("peername")
    return (str(peer[0]), int(peer[1])) if peer else ("", 0)
