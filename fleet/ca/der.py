"""The few pieces of DER (ITU-T X.690) that the libraries do not let us write: an envelope put round bytes.

Only ever reads what this process has just encoded; bytes from outside go to a library.
"""

import base64
import textwrap
from collections.abc import Iterator

SEQUENCE = 0x30
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04


def tlv(tag: int, content: bytes) -> bytes:
    """Return one element: tag, definite length in its shortest form (X.690 10.1), content."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def sequence(*elements: bytes) -> bytes:
    """Return a SEQUENCE of elements that are encoded already."""
    return tlv(SEQUENCE, b"".join(elements))


def integer(number: int) -> bytes:
    """Return a non-negative INTEGER."""
    return tlv(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


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
