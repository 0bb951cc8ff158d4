"""MQTT 3.1.1 (OASIS) packets as a server reads and writes them: what a device of a fleet needs, and no more.

Anything else, and anything that is too long, raises `MalformedMessageError`.
"""

from dataclasses import dataclass
from enum import IntEnum

from device_agent.wire.problems import MalformedMessageError

LONGEST_PACKET = 128 * 1024


class Kind(IntEnum):
    """Control packet types (2.2.1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet as it came: type, flags (2.2.2) and the rest."""

    kind: Kind
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """CONNECT (3.1), without will, name and password, which nobody here uses."""

    level: int
    is_clean: bool
    has_will: bool
    keepalive: int
    client_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """PUBLISH (3.3)."""

    topic: str
    payload: bytes
    qos: int
    is_retained: bool
    identifier: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """SUBSCRIBE (3.8)."""

    identifier: int
    topics: tuple[tuple[str, int], ...]
    """Filters, each with the QoS that it asks for."""


class _Reader:
    """Walks over the bytes of a packet."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._octets)

    def take(self, count: int) -> bytes:
        piece = self._octets[self._at : self._at + count]
        if len(piece) != count:
            raise MalformedMessageError("packet ends too early")
        self._at += count
        return piece

    def number(self) -> int:
        return int.from_bytes(self.take(2))

    def text(self) -> str:
        try:
            return self.take(self.number()).decode()
        except UnicodeDecodeError as error:
            raise MalformedMessageError("packet must hold UTF-8 (1.5.3)") from error

    def rest(self) -> bytes:
        return self.take(len(self._octets) - self._at)


def kind_of(first: int) -> Kind:
    """Return the type in a packet's first octet; raises `MalformedMessageError`."""
    try:
        return Kind(first >> 4)
    except ValueError as error:
        raise MalformedMessageError("packet is of a type that no client of a fleet sends") from error


def read_connect(body: bytes) -> Connect:
    """Read the variable header and the client id; raises `MalformedMessageError`."""
    reader = _Reader(body)
    if reader.text() != "MQTT":
        raise MalformedMessageError("CONNECT must name the protocol MQTT (3.1.2.1)")
    level, flags = reader.take(1)[0], reader.take(1)[0]
    return Connect(
        level=level,
        is_clean=bool(flags & 0x02),
        has_will=bool(flags & 0x04),
        keepalive=reader.number(),
        client_id=reader.text() if level == 4 else "",
    )


def read_publish(packet: Packet) -> Publish:
    """Read a PUBLISH; raises `MalformedMessageError`."""
    reader = _Reader(packet.body)
    qos, topic = packet.flags >> 1 & 3, reader.text()
    identifier = reader.number() if qos else 0
    return Publish(
        topic=topic,
        payload=reader.rest(),
        qos=qos,
        is_retained=bool(packet.flags & 1),
        identifier=identifier,
    )


def read_subscribe(body: bytes) -> Subscribe:
    """Read a SUBSCRIBE; raises `MalformedMessageError`."""
    reader = _Reader(body)
    identifier, topics = reader.number(), []
    while not reader.is_at_end:
        topics.append((reader.text(), reader.take(1)[0]))
    return Subscribe(identifier=identifier, topics=tuple(topics))


def connack(code: int) -> bytes:
    """Return a CONNACK (3.2) without a session."""
    return _packet(Kind.CONNACK, bytes((0, code)))


def puback(identifier: int) -> bytes:
    """Return a PUBACK (3.4)."""
    return _packet(Kind.PUBACK, identifier.to_bytes(2))


def suback(subscribe: Subscribe) -> bytes:
    """Return a SUBACK (3.9) that grants QoS 1 at most."""
    granted = bytes(min(qos, 1) for _, qos in subscribe.topics)
    return _packet(Kind.SUBACK, subscribe.identifier.to_bytes(2) + granted)


def unsuback(body: bytes) -> bytes:
    """Return an UNSUBACK (3.11)."""
    return _packet(Kind.UNSUBACK, body[:2])


def pingresp() -> bytes:
    """Return a PINGRESP (3.13)."""
    return _packet(Kind.PINGRESP, b"")


def publish(topic: str, payload: bytes, *, identifier: int) -> bytes:
    """Return a PUBLISH of QoS 1."""
    name = topic.encode()
    body = len(name).to_bytes(2) + name + identifier.to_bytes(2) + payload
    return _packet(Kind.PUBLISH, body, flags=0x02)


def _packet(kind: Kind, body: bytes, *, flags: int = 0) -> bytes:
    length, octets = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        octets += bytes((digit | (0x80 if length else 0),))
        if not length:
            return bytes((kind << 4 | flags,)) + octets + body
