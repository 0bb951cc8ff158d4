"""The partition `esp_secure_cert` of Espressif's chips, as their manager component reads it: TLVs in flash.

It writes and reads octets in memory, no more: an image holds a private key.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.problems import MalformedMessageError

OFFSET = 0xD000
SIZE = 0x2000
"""Where the partition begins (type 0x3F in the partition table) and how long it is."""

_MAGIC = 0xBA5EBA11
_HEADER = struct.Struct("<IB3xBBH")
_FOOTER = struct.Struct("<I")
_ALIGNMENT = 16
"""Flash encryption writes so many octets at once."""
_ERASED = 0xFF


class Entry(IntEnum):
    """Types of entries."""

    CA_CHAIN = 0
    DEVICE_CHAIN = 1
    PRIVATE_KEY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureCert:
    """What a partition holds, without its key."""

    chain: tuple[bytes, ...]
    """DER, leaf first."""
    anchors: tuple[bytes, ...]
    key_octets: int
    """How long the key is; 0 where there is none."""

    @classmethod
    def read(cls, image: bytes) -> Self:
        """Read a partition.

        Raises:
            MalformedMessageError: an entry is spoilt, or is no certificates.
        """
        entries = _entries(image)
        return cls(
            chain=_certificates(entries.get(Entry.DEVICE_CHAIN, b"")),
            anchors=_certificates(entries.get(Entry.CA_CHAIN, b"")),
            key_octets=len(entries.get(Entry.PRIVATE_KEY, b"")),
        )


def is_erased(image: bytes) -> bool:
    """Return whether nothing was ever written."""
    return not image.strip(bytes((_ERASED,)))


def secure_cert_image(*, key: bytes, chain: Sequence[bytes], anchors: Sequence[bytes]) -> bytes:
    """Return a partition with a private key (DER), a chain (DER, leaf first) and trust anchors (DER).

    Raises:
        MalformedMessageError: it is longer than the partition.
    """
    held = {Entry.DEVICE_CHAIN: _pem(chain), Entry.CA_CHAIN: _pem(anchors), Entry.PRIVATE_KEY: key}
    image = b"".join(_entry(kind, content) for kind, content in held.items() if content)
    if len(image) > SIZE:
        raise MalformedMessageError(f"image must not exceed {SIZE} bytes, and has {len(image)}")
    return image.ljust(SIZE, bytes((_ERASED,)))


def private_key_of(image: bytes) -> bytes:
    """Return the private key that a partition holds, DER.

    Raises:
        MalformedMessageError: an entry is spoilt, or there is no key.
    """
    key = _entries(image).get(Entry.PRIVATE_KEY, b"")
    if not key:
        raise MalformedMessageError("the partition must hold a private key")
    return key


def _entry(kind: Entry, content: bytes) -> bytes:
    header = _HEADER.pack(_MAGIC, 0, kind, 0, len(content))
    body = header + content + bytes(-len(content) % _ALIGNMENT)
    return body + _FOOTER.pack(zlib.crc32(body, 0xFFFFFFFF))


def _pem(certificates: Sequence[bytes]) -> bytes:
    """Return certificates as the TLS library reads several of them: PEM that ends with NUL, or nothing."""
    pems = [x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in certificates]
    return b"".join([*pems, b"\0"]) if pems else b""


def _entries(image: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + _HEADER.size <= len(image):
        magic, _flags, kind, _subtype, length = _HEADER.unpack_from(image, at)
        if magic != _MAGIC:
            break
        end = at + _HEADER.size + length + -length % _ALIGNMENT
        if image[end : end + _FOOTER.size] != _FOOTER.pack(zlib.crc32(image[at:end], 0xFFFFFFFF)):
            raise MalformedMessageError("an entry of the partition is spoilt")
        found[kind] = image[at + _HEADER.size :][:length]
        at = end + _FOOTER.size
    return found


def _certificates(octets: bytes) -> tuple[bytes, ...]:
    if not octets:
        return ()
    try:
        found = x509.load_pem_x509_certificates(octets.rstrip(b"\0"))
    except ValueError as error:
        raise MalformedMessageError("the partition must hold certificates in PEM") from error
    return tuple(one.public_bytes(Encoding.DER) for one in found)
