"""What a maker programs into a unit before it comes to the line: its hardware id, its model, its anchors.

The image is the same for the same input. It never holds a key: the unit makes its own.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire import cbor
from device_agent.wire.objects import (
    MAX_NAME_LENGTH,
    encode_certificates,
    parse_certificates,
    parse_hardware_id,
)
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.smp import Members

FLASH_BYTES = 0x1_0000
"""What the board emulates; the firmware uses the first 36 KB."""
ROOM = 0x1000
"""Bytes of flash for the passport, a whole sector."""

_MAGIC = b"FFLP"
_HEAD_BYTES = 64
_MOST_BYTES = 2048
_ERASED = b"\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passport:
    """One unit; without an anchor (DER) it believes the first station that it meets."""

    hardware_id: str
    model: str
    anchors: tuple[bytes, ...] = ()

    def image(self) -> bytes:
        """Return the sector, as it is programmed at the beginning of the flash.

        Raises:
            MalformedMessageError: a name is none, or the anchors have no room.
        """
        parse_hardware_id(self.hardware_id)
        if len(self.model) > MAX_NAME_LENGTH or not self.model.isprintable():
            raise MalformedMessageError(f"model must be printable text of at most {MAX_NAME_LENGTH}")
        members: dict[str, cbor.Item] = {"hw": self.hardware_id, "md": self.model}
        if self.anchors:
            members["an"] = encode_certificates(self.anchors)
        body = cbor.encode(members)
        if len(body) > _MOST_BYTES:
            raise MalformedMessageError(f"the anchors exceed {_MOST_BYTES} bytes")
        return (_head(body) + body).ljust(ROOM, _ERASED)

    @classmethod
    def read(cls, image: bytes) -> Self:
        """Read back what `image` wrote; raises `MalformedMessageError`."""
        length = int.from_bytes(image[8:12], "little")
        body = image[_HEAD_BYTES : _HEAD_BYTES + length]
        if len(body) != length or image[:_HEAD_BYTES] != _head(body):
            raise MalformedMessageError("the flash holds no passport")
        members = cbor.decode(body)
        if not isinstance(members, dict):
            raise MalformedMessageError("the passport must be a CBOR map")
        found = Members(members)
        anchors = found.octets("an", lowest=1, highest=_MOST_BYTES) if "an" in found else b""
        return cls(
            hardware_id=parse_hardware_id(found.text("hw", longest=MAX_NAME_LENGTH)),
            model=found.text("md", longest=MAX_NAME_LENGTH),
            anchors=parse_certificates(anchors) if anchors else (),
        )


def flash_image(passport: Passport) -> bytes:
    """Return the whole flash of a unit that was never enrolled."""
    return passport.image().ljust(FLASH_BYTES, _ERASED)


def read_anchors(files: Sequence[Path]) -> tuple[bytes, ...]:
    """Return the certificates of PEM files, DER; raises OSError, ValueError."""
    found = [one for file in files for one in x509.load_pem_x509_certificates(file.read_bytes())]
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def _head(body: bytes) -> bytes:
    counted = (0).to_bytes(4, "little") + len(body).to_bytes(4, "little")
    head = _MAGIC + counted + hashlib.sha256(counted + body).digest()
    return head.ljust(_HEAD_BYTES, _ERASED)
