"""Objects that go over the line in pieces: one that is read, and those that are written."""

import hashlib
from collections.abc import Iterable
from hmac import compare_digest

from device_agent.wire.factory_requests import Read, Write
from device_agent.wire.objects import ObjectId, ReadableId
from fleet.station.link.steps import Event


class Incoming:
    """The CSR of a unit, on its way in."""

    __slots__ = ("_digest", "_length", "octets")

    def __init__(self, *, length: int, digest: bytes) -> None:
        self._length = length
        self._digest = digest
        self.octets = b""

    def next(self, chunk: int) -> Read:
        """Return the question for the next piece of at most `chunk` bytes."""
        length = max(1, min(chunk, self._length - len(self.octets)))
        return Read(object_id=ReadableId.CSR, offset=len(self.octets), length=length)

    def take(self, piece: bytes) -> Event:
        """Keep a piece; return MORE, COMPLETE, or SPOILT if the whole has another hash than was told."""
        self.octets += piece
        if not piece or len(self.octets) > self._length:
            return Event.SPOILT
        if len(self.octets) < self._length:
            return Event.MORE
        right = compare_digest(hashlib.sha256(self.octets).digest(), self._digest)
        return Event.COMPLETE if right else Event.SPOILT


class Outgoing:
    """Objects on their way to the unit, one after another."""

    __slots__ = ("_at", "_objects", "_offset", "_sent")

    def __init__(self, objects: Iterable[tuple[ObjectId, bytes]]) -> None:
        self._objects = list(objects)
        self._at = 0
        self._offset = 0
        self._sent = 0

    @property
    def done(self) -> int:
        """Bytes that are there."""
        return self._sent + self._offset

    @property
    def total(self) -> int:
        return sum(len(octets) for _, octets in self._objects)

    @property
    def begins(self) -> ObjectId | None:
        """The object of which nothing was sent yet, if that is where it stands."""
        return self._objects[self._at][0] if self._offset == 0 else None

    def add(self, object_id: ObjectId, octets: bytes) -> None:
        """Send one more object after the others."""
        self._objects.append((object_id, octets))

    def next(self, chunk: int) -> Write:
        """Return the order for the next piece of at most `chunk` bytes."""
        object_id, octets = self._objects[self._at]
        piece = octets[self._offset : self._offset + chunk]
        return Write(object_id=object_id, offset=self._offset, octets=piece)

    def take(self, offset: int) -> Event:
        """Take how much the unit says that it holds; return MORE, COMPLETE, or SPOILT if that cannot be."""
        length = len(self._objects[self._at][1])
        if not self._offset < offset <= length:
            return Event.SPOILT
        self._offset = offset
        if offset < length:
            return Event.MORE
        return self.skip()

    def skip(self) -> Event:
        """Go on to the next object; return MORE, or COMPLETE when there is none."""
        self._sent += self._offset
        self._at += 1
        self._offset = 0
        return Event.MORE if self._at < len(self._objects) else Event.COMPLETE

    def begin_again(self) -> None:
        """Send the object at hand from its beginning."""
        self._offset = 0
