"""What a unit gets: the objects as they go over the line, kept byte for byte, and the names of its leaf."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.objects import (
    Configuration,
    ObjectHashes,
    ObjectId,
    encode_certificates,
    hashes_of,
    parse_certificates,
)
from device_agent.wire.replies import BrokerAddress, HttpsAddress
from device_agent.wire.secret import Secret
from fleet.model import KeyOrigin


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueOrder:
    """What a station asks the server for: a certificate for this id and this key."""

    device_id: str
    hardware_id: str
    csr: bytes
    """DER."""
    replaces: str | None = None
    """Serial of the certificate that the unit lost with its key, to be revoked."""
    key: KeyOrigin = KeyOrigin.DEVICE
    batch: str = ""
    """Which it is made for; empty is the station's first."""
    code: Secret | None = None
    """An operator's, for a unit that has an identity already, whoever made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """What the server answered, certificates in DER."""

    serial: str
    chain: tuple[bytes, ...]
    """Leaf first, without the root."""
    anchors: tuple[bytes, ...]
    """The domain's trust anchors."""
    servers: tuple[bytes, ...]
    """The anchors by which servers and stations are trusted."""
    renew_after: datetime
    broker: BrokerAddress
    recovery: HttpsAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The three objects, byte for byte: their hashes are what station and device sign."""

    serial: str
    chain: bytes
    anchors: bytes
    configuration: bytes
    given: ObjectHashes | None = None
    """Of what the unit got from another station, where that is not what it would get today."""

    @property
    def held(self) -> ObjectHashes:
        """The hashes of what a unit holds that was not written here just now."""
        return self.given or self.hashes

    @property
    def hashes(self) -> ObjectHashes:
        return hashes_of(chain=self.chain, anchors=self.anchors, configuration=self.configuration)

    @property
    def leaf(self) -> bytes:
        """The device's certificate, DER."""
        return parse_certificates(self.chain)[0]

    @property
    def fingerprint(self) -> bytes:
        return hashlib.sha256(self.leaf).digest()

    @property
    def objects(self) -> dict[ObjectId, bytes]:
        return {
            ObjectId.CHAIN: self.chain,
            ObjectId.ANCHORS: self.anchors,
            ObjectId.CONFIGURATION: self.configuration,
        }


def pack(order: IssueOrder, issuance: Issuance) -> Package:
    """Return the package that an issuance makes for a unit."""
    servers = tuple(dict.fromkeys(issuance.servers))
    anchors = tuple(dict.fromkeys((*issuance.anchors, *servers)))
    configuration = Configuration(
        hardware_id=order.hardware_id,
        device_id=order.device_id,
        serial=issuance.serial,
        renew_after=issuance.renew_after,
        broker=issuance.broker,
        recovery=issuance.recovery,
        servers=tuple(hashlib.sha256(anchor).hexdigest() for anchor in servers),
    )
    return Package(
        serial=issuance.serial,
        chain=encode_certificates(issuance.chain),
        anchors=encode_certificates(anchors),
        configuration=configuration.encode(),
    )
