"""The few pieces of DER (ITU-T X.690) that the libraries do not let us write: an envelope put round bytes.

Only ever reads what this process has just encoded; bytes from outside go to a library, or `der_reader`.
"""

import base64
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime

SEQUENCE = 0x30
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
GENERALIZED_TIME = 0x18
BOOLEAN = 0x01
NULL = bytes((0x05, 0x00))
_EXPLICIT = 0xA0


def tlv(tag: int, content: bytes) -> bytes:
    """Return one element: tag, length, content."""
    return header(tag, len(content)) + content


def header(tag: int, length: int) -> bytes:
    """Return tag and definite length in its shortest form (X.690 10.1); the content is written elsewhere."""
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def sequence(*elements: bytes) -> bytes:
    """Return a SEQUENCE of elements that are encoded already."""
    # One copy: a revocation list has tens of megabytes.
    return b"".join((header(SEQUENCE, sum(map(len, elements))), *elements))


def integer(number: int) -> bytes:
    """Return a non-negative INTEGER."""
    return tlv(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def object_identifier(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER (X.690 8.19)."""
    first, second, *others = (int(part) for part in dotted.split("."))
    return tlv(OBJECT_IDENTIFIER, b"".join(map(_base_128, (first * 40 + second, *others))))


def enumerated(number: int) -> bytes:
    """Return an ENUMERATED of one octet."""
    return tlv(ENUMERATED, bytes((number,)))


def generalized_time(moment: datetime) -> bytes:
    """Return a GeneralizedTime in UTC, whole seconds (RFC 5280 4.1.2.5.2)."""
    return tlv(GENERALIZED_TIME, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())


def explicit(number: int, element: bytes) -> bytes:
    """Return an element inside of the context tag [number] EXPLICIT."""
    return tlv(context(number), element)


def context(number: int) -> int:
    """Return the tag [number] of a constructed element."""
    return _EXPLICIT | number


def elements(constructed: bytes) -> tuple[bytes, ...]:
    """Return the elements inside one constructed element."""
    return tuple(_walk(content(constructed)))


def content(element: bytes) -> bytes:
    """Return what is inside one element."""
    start, end = _content(element, 0)
    return element[start:end]


def signed(tbs: bytes, *, algorithm: bytes, signature: bytes) -> bytes:
    """Return SIGNED{tbs}: the form of certificates and CRLs alike (RFC 5280 4.1, 5.1)."""
    return sequence(tbs, algorithm, tlv(BIT_STRING, b"\x00" + signature))


def pem(label: str, encoded: bytes) -> bytes:
    """Return the textual encoding (RFC 7468 2), 64 characters a line."""
    body = "\n".join(textwrap.wrap(base64.b64encode(encoded).decode(), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


def _base_128(number: int) -> bytes:
    octets = [number & 0x7F]
    while number := number >> 7:
        octets.append(0x80 | number & 0x7F)
    return bytes(reversed(octets))


def _walk(inside: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(inside):
        _, end = _content(inside, position)
        yield inside[position:end]
        position = end


def _content(data: bytes, position: int) -> tuple[int, int]:
    """Return where the content of the element at `position` begins and ends."""
    length = data[position + 1]
    start = position + 2
    if length >= 0x80:
        octets = length & 0x7F
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
    return start, start + length
