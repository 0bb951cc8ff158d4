"""Reads the big-endian fields of TPM structures out of untrusted bytes, and writes them.

Every read is bounded, and what is left over at the end is a fault.
"""

import struct


class BrokenStructureError(ValueError):
    """Bytes that are not the structure they should be; the text never repeats them."""


class Octets:
    """A cursor over bytes; each method takes a field."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        """Return so many bytes."""
        if count > len(self._data) - self._at:
            raise BrokenStructureError("a structure ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2))

    def u32(self) -> int:
        return int.from_bytes(self.take(4))

    def u64(self) -> int:
        return int.from_bytes(self.take(8))

    def sized(self, *, longest: int) -> bytes:
        """Return the buffer of a TPM2B: a UINT16 of its size, then so many bytes."""
        size = self.u16()
        if size > longest:
            raise BrokenStructureError(f"a buffer is longer than {longest} bytes")
        return self.take(size)

    def end(self) -> None:
        """Require that nothing is left."""
        if self._at != len(self._data):
            raise BrokenStructureError("a structure is followed by more bytes")


def sized(octets: bytes) -> bytes:
    """Return a TPM2B."""
    return struct.pack(">H", len(octets)) + octets
