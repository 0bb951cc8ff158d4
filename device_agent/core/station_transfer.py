"""What a station writes into a device, piece by piece, and the judgement of the whole before it is used.

The order is fixed: hashes, then the station's word for them, then whom they are for, then the key.
"""

from datetime import datetime
from hashlib import sha256
from hmac import compare_digest

from device_agent.core.station_trust import check_key, check_station
from device_agent.core.station_unit import Installation, UnitReport
from device_agent.wire.factory import Rc
from device_agent.wire.factory_requests import Install, Write
from device_agent.wire.objects import (
    MAX_OBJECT_BYTES,
    Configuration,
    ObjectHashes,
    ObjectId,
    hashes_of,
    parse_certificates,
)


class TransferError(Exception):
    """Ends a command with an rc; the text is for the device's log."""

    def __init__(self, rc: Rc, text: str) -> None:
        super().__init__(text)
        self.rc = rc


class Transfer:
    """The objects of one session."""

    __slots__ = ("_objects",)

    def __init__(self) -> None:
        self._objects: dict[ObjectId, bytearray] = {}

    def write(self, request: Write) -> int:
        """Keep a piece; return how much of the object is there.

        A piece may begin anywhere in what is there and cuts off the rest, because a station whose line is
        noisy sends the same bytes again in other pieces.
        """
        held = self._objects.setdefault(request.object_id, bytearray())
        if request.offset > len(held):
            raise TransferError(Rc.OFFSET, "WRITE leaves a gap")
        if request.offset + len(request.octets) > MAX_OBJECT_BYTES:
            raise TransferError(Rc.OFFSET, f"an object must not exceed {MAX_OBJECT_BYTES} bytes")
        held[request.offset :] = request.octets
        return len(held)

    def judge(
        self, request: Install, report: UnitReport, *, signed: bytes, csr: bytes, now: datetime | None
    ) -> Installation:
        """Return what may be installed.

        `signed` is the text that the station's signature is over, `csr` the device's own request.

        Raises:
            TransferError, UnacceptableAnswerError, MalformedMessageError: something in it is not right.
        """
        self._check_hashes(request.hashes)
        chain = parse_certificates(self._octets(ObjectId.CHAIN))
        anchors = parse_certificates(self._octets(ObjectId.ANCHORS))
        configuration = Configuration.parse(self._octets(ObjectId.CONFIGURATION))
        station = check_station(
            request.station_chain or parse_certificates(self._octets(ObjectId.STATION_CHAIN)),
            report.anchors or _servers(anchors, configuration),
            signature=request.signature,
            signed=signed,
            now=now,
        )
        _check_unit(configuration, report)
        check_key(chain[0], csr)
        return Installation(
            chain=chain,
            anchors=anchors,
            configuration=configuration,
            hashes=request.hashes,
            station=station,
            tofu=not report.anchors,
        )

    def _octets(self, object_id: ObjectId) -> bytes:
        return bytes(self._objects.get(object_id, b""))

    def _check_hashes(self, hashes: ObjectHashes) -> None:
        held = hashes_of(
            chain=self._octets(ObjectId.CHAIN),
            anchors=self._octets(ObjectId.ANCHORS),
            configuration=self._octets(ObjectId.CONFIGURATION),
        )
        right = (
            compare_digest(held.chain, hashes.chain),
            compare_digest(held.anchors, hashes.anchors),
            compare_digest(held.configuration, hashes.configuration),
        )
        if not all(right):
            raise TransferError(Rc.HASH, "an object did not arrive as the station sent it")


def _servers(anchors: tuple[bytes, ...], configuration: Configuration) -> tuple[bytes, ...]:
    """A device without an anchor takes those that came; the station must at least fit to them."""
    return tuple(anchor for anchor in anchors if sha256(anchor).hexdigest() in configuration.servers)


def _check_unit(configuration: Configuration, report: UnitReport) -> None:
    if configuration.hardware_id != report.hardware_id:
        raise TransferError(Rc.UNAUTHORISED, "the configuration is for another unit")
    if report.device_id and configuration.device_id != report.device_id:
        raise TransferError(Rc.UNAUTHORISED, "the configuration is for another device id")
