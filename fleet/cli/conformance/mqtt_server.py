"""A broker for one device under test: it takes whatever comes, and hands it on as events.

It admits by TLS alone, keeps no session, and decides nothing: the course does.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from cryptography import x509

from device_agent.wire.problems import MalformedMessageError
from fleet.cli.conformance import mqtt_packets as packets
from fleet.cli.conformance.mqtt_packets import Connect, Kind, Packet, Publish, Subscribe
from fleet.cli.conformance.workshop import Workshop

_NOT_AUTHORISED = 5
_UNACCEPTABLE_LEVEL = 1


@dataclass(eq=False, slots=True, kw_only=True)
class Visit:
    """One connection of the device."""

    connect: Connect
    certificate: x509.Certificate
    writer: asyncio.StreamWriter
    subscribed: dict[str, int] = field(default_factory=dict)
    """Filters with the QoS that was asked for."""
    _last: int = 0

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a message; it may be lost, as any."""
        self._last = self._last % 65535 + 1
        self.writer.write(packets.publish(topic, payload, identifier=self._last))

    def cut(self) -> None:
        """End the connection without a word."""
        self.writer.transport.abort()

    def close(self) -> None:
        """End the connection after what was sent."""
        self.writer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message of the device."""

    visit: Visit
    publish: Publish
    at: float
    """By the clock of the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """The device sent what is no MQTT 3.1.1."""

    reason: str


Event: TypeAlias = Visit | Said | Broke


class Server:
    """What the device does, event by event. `refused` are certificates that are let in no more, by serial."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.refused: set[int] = set()
        self.turned_away: set[int] = set()
        """Serials of those that came all the same."""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        try:
            visit = await self._open(reader, writer)
            while visit is not None and await self._step(visit, await _next(reader)):
                await writer.drain()
        except MalformedMessageError as error:
            self.events.put_nowait(Broke(reason=str(error)))
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the device went away: that is no fault
        finally:
            writer.close()
            with suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Visit | None:
        packet = await _next(reader)
        if packet.kind is not Kind.CONNECT:
            raise MalformedMessageError("the first packet must be CONNECT (3.1)")
        connect = packets.read_connect(packet.body)
        certificate = _shown(writer)
        code = self._judge(connect, certificate)
        writer.write(packets.connack(code))
        await writer.drain()
        if code:
            return None
        visit = Visit(connect=connect, certificate=certificate, writer=writer)
        self.events.put_nowait(visit)
        return visit

    def _judge(self, connect: Connect, certificate: x509.Certificate) -> int:
        if connect.level != 4:
            self.events.put_nowait(
                Broke(reason=f"CONNECT has protocol level {connect.level}, not 4 (MQTT 3.1.1)")
            )
            return _UNACCEPTABLE_LEVEL
        if certificate.serial_number in self.refused:
            self.turned_away.add(certificate.serial_number)
            return _NOT_AUTHORISED
        return 0

    async def _step(self, visit: Visit, packet: Packet) -> bool:
        """Take one packet; return whether more may come."""
        match packet.kind:
            case Kind.PUBLISH:
                publish = packets.read_publish(packet)
                if publish.qos:
                    visit.writer.write(packets.puback(publish.identifier))
                at = asyncio.get_running_loop().time()
                self.events.put_nowait(Said(visit=visit, publish=publish, at=at))
            case Kind.SUBSCRIBE:
                self._subscribe(visit, packets.read_subscribe(packet.body))
            case Kind.UNSUBSCRIBE:
                visit.writer.write(packets.unsuback(packet.body))
            case Kind.PINGREQ:
                visit.writer.write(packets.pingresp())
            case Kind.DISCONNECT:
                return False
            case Kind.CONNECT:
                raise MalformedMessageError("a second CONNECT on one connection (3.1.0-2)")
            case _:
                pass
        return True

    @staticmethod
    def _subscribe(visit: Visit, subscribe: Subscribe) -> None:
        visit.subscribed |= dict(subscribe.topics)
        visit.writer.write(packets.suback(subscribe))


async def _next(reader: asyncio.StreamReader) -> Packet:
    first = (await reader.readexactly(1))[0]
    length, shift = 0, 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            break
        if shift > 21:
            raise MalformedMessageError("packet must tell its length in four octets (2.2.3)")
    if length > packets.LONGEST_PACKET:
        raise MalformedMessageError(f"packet must not exceed {packets.LONGEST_PACKET} bytes")
    body = await reader.readexactly(length)
    return Packet(kind=packets.kind_of(first), flags=first & 0x0F, body=body)


def _shown(writer: asyncio.StreamWriter) -> x509.Certificate:
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(found)


@asynccontextmanager
async def serving(workshop: Workshop, *, host: str, port: int) -> AsyncIterator[Server]:
    """Listen, with a certificate of the workshop's, to clients that show one of its certificates."""
    server = Server()
    tls = _tls(workshop, host=host)
    listening = await asyncio.start_server(server.serve, host, port, ssl=tls)
    async with listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


def _tls(workshop: Workshop, *, host: str) -> ssl.SSLContext:
    pair = workshop.server(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    # The issuing CAs as well: a device need not send the one above its certificate.
    trusted = (workshop.devices_root, workshop.devices, workshop.servers_root, workshop.servers)
    context.load_verify_locations(cadata="".join(pair.pem for pair in trusted))
    # The library reads keys from files alone; this one is thrown away at once.
    with TemporaryDirectory(prefix="fleet-conform-") as folder:
        path = Path(folder) / "server.pem"
        path.touch(mode=0o600)
        path.write_text(pair.pem + workshop.servers.pem + pair.key_pem)
        context.load_cert_chain(path)
    return context
