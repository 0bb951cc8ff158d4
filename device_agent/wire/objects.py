"""Objects that a station writes into a device, or reads from it, and the hashes that name them.

An object is written in pieces and used as a whole, once its SHA-256 is the one that the station signed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Self

from device_agent.wire import cbor
from device_agent.wire.identity import parse_device_id, parse_serial, parse_sha256
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import BrokerAddress, HttpsAddress
from device_agent.wire.smp import Members

DIGEST_BYTES = 32
MAX_OBJECT_BYTES = 16 * 1024
MAX_CERTIFICATES = 8
MAX_CERTIFICATE_BYTES = 4096
MAX_CSR_BYTES = 2048
MAX_NAME_LENGTH = 64

_CONFIGURATION_VERSION = 1
_LONGEST_HOST = 253
_LAST_SECOND = 253402300799
"""9999-12-31T23:59:59Z, the last that a datetime can tell."""
_HARDWARE_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-")


class ObjectId(IntEnum):
    """Objects that are written."""

    CHAIN = 1
    """CBOR array of DER certificates, leaf first."""
    ANCHORS = 2
    """CBOR array of DER certificates."""
    CONFIGURATION = 3
    """CBOR map, see `Configuration`."""
    STATION_CHAIN = 4
    """CBOR array of DER certificates, for lines where INSTALL cannot carry it in one message."""


class ReadableId(IntEnum):
    """Objects that are read."""

    CSR = 1
    ATTESTATION = 2
    REQUEST = 3
    """What the last ASK gave, as the exact JSON that the device has signed."""
    CERTIFICATE = 4
    """The leaf that this request speaks for, DER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHashes:
    """SHA-256 of the objects 1, 2 and 3: `h1`, `h2`, `h3`."""

    chain: bytes
    anchors: bytes
    configuration: bytes


def hashes_of(*, chain: bytes, anchors: bytes, configuration: bytes) -> ObjectHashes:
    """Return the hashes of three objects as they went over the line."""
    return ObjectHashes(chain=_digest(chain), anchors=_digest(anchors), configuration=_digest(configuration))


def _digest(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()


def encode_certificates(certificates: Sequence[bytes]) -> bytes:
    """Return an object of certificates, each DER."""
    return cbor.encode(list(certificates))


def parse_certificates(octets: bytes) -> tuple[bytes, ...]:
    """Return the certificates of an object, each DER and not looked into.

    Raises:
        MalformedMessageError: it is no array of 1 to 8 byte strings.
    """
    found = Members({"object": cbor.decode(octets)})
    return found.all_octets("object", most=MAX_CERTIFICATES, longest=MAX_CERTIFICATE_BYTES)


def parse_hardware_id(text: object) -> str:
    """Return a hardware id: 1 to 64 of `A-Z a-z 0-9 . _ : -`.

    Raises:
        MalformedMessageError: it is anything else.
    """
    if isinstance(text, str) and 1 <= len(text) <= MAX_NAME_LENGTH and _HARDWARE_ALPHABET.issuperset(text):
        return text
    raise MalformedMessageError("hardware id must be 1 to 64 of A-Z a-z 0-9 . _ : -")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a device must know beside its certificate.

    It names the unit it was made for, so that a device refuses what was meant for its neighbour. Topics
    follow from the names (`wire.topics`) and are not sent: `broker` holds none.
    """

    hardware_id: str
    device_id: str
    serial: str
    renew_after: datetime
    broker: BrokerAddress
    servers: tuple[str, ...]
    """SHA-256 of the anchors by which servers are trusted, hex; the other anchors are the domain's."""
    recovery: HttpsAddress | None = None

    def encode(self) -> bytes:
        """Return object 3."""
        broker: cbor.Item = {
            "host": self.broker.host,
            "port": self.broker.port,
            "name": self.broker.name,
        }
        members: dict[str, cbor.Item] = {
            "v": _CONFIGURATION_VERSION,
            "hw": self.hardware_id,
            "id": self.device_id,
            "sn": bytes.fromhex(self.serial),
            "ra": int(self.renew_after.timestamp()),
            "broker": broker,
            "servers": [bytes.fromhex(digest) for digest in self.servers],
        }
        if self.recovery:
            members["recovery"] = {"host": self.recovery.host, "port": self.recovery.port}
        return cbor.encode(members)

    @classmethod
    def parse(cls, octets: bytes) -> Self:
        """Read object 3; raises `MalformedMessageError`."""
        found = cbor.decode(octets)
        if not isinstance(found, dict):
            raise MalformedMessageError("configuration must be a CBOR map")
        members = Members(found)
        members.integer("v", lowest=_CONFIGURATION_VERSION, highest=_CONFIGURATION_VERSION)
        servers = members.all_octets("servers", most=MAX_CERTIFICATES, longest=DIGEST_BYTES)
        return cls(
            hardware_id=parse_hardware_id(members.text("hw", longest=MAX_NAME_LENGTH)),
            device_id=parse_device_id(members.text("id", longest=MAX_NAME_LENGTH)),
            serial=parse_serial(members.octets("sn", lowest=16, highest=16).hex()),
            renew_after=datetime.fromtimestamp(members.integer("ra", highest=_LAST_SECOND), UTC),
            broker=_parse_broker(members.map("broker")),
            servers=tuple(parse_sha256(digest.hex()) for digest in servers),
            recovery=_parse_recovery(members.map("recovery")) if "recovery" in members else None,
        )


def _parse_broker(members: Members) -> BrokerAddress:
    return BrokerAddress(
        host=members.text("host", longest=_LONGEST_HOST),
        port=members.integer("port", lowest=1, highest=65535),
        name=members.text("name", longest=MAX_NAME_LENGTH + 33),
    )


def _parse_recovery(members: Members) -> HttpsAddress:
    return HttpsAddress(
        host=members.text("host", longest=_LONGEST_HOST),
        port=members.integer("port", lowest=1, highest=65535),
    )
