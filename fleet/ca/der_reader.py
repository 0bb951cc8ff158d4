"""Reads DER (ITU-T X.690) that came from outside, one element after another, strictly and within its bounds.

For the few structures that the libraries read in part only. Whatever is not DER, or not there, is refused.
"""

from typing import Self

from fleet.ca.der import INTEGER

_LONG_FORM = 0x80
_MOST_LENGTH_OCTETS = 4
_MULTI_BYTE_TAG = 0x1F


class NotDerError(ValueError):
    """The bytes are not what was to be read."""


class DerReader:
    """The elements inside one constructed element, from the first to the last."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def end(self) -> None:
        """Want nothing more. Raises `NotDerError`."""
        if not self.is_at_end:
            raise NotDerError("something follows that does not belong there")

    def whole(self, tag: int) -> bytes:
        """Return the next element with its tag and length. Raises `NotDerError`."""
        first = self._at
        self.content(tag)
        return self._data[first : self._at]

    def content(self, tag: int) -> bytes:
        """Return what is in the next element, which must be of this tag. Raises `NotDerError`."""
        if not self.has(tag) or tag & _MULTI_BYTE_TAG == _MULTI_BYTE_TAG:
            raise NotDerError(f"there is no element of tag {tag:#04x}")
        start, end = self._bounds()
        self._at = end
        return self._data[start:end]

    def inside(self, tag: int) -> Self:
        """Return a reader of what is in the next element. Raises `NotDerError`."""
        return type(self)(self.content(tag))

    def has(self, tag: int) -> bool:
        """Tell whether an element of this tag comes next."""
        return self._at < len(self._data) and self._data[self._at] == tag

    def integer(self) -> int:
        """Return the next element, an INTEGER in its shortest form (X.690 8.3). Raises `NotDerError`."""
        octets = self.content(INTEGER)
        number = int.from_bytes(octets, "big", signed=True)
        if not octets or len(octets) != _shortest(number):
            raise NotDerError("an integer is not in its shortest form")
        return number

    def _bounds(self) -> tuple[int, int]:
        """Return where the content of the next element begins and ends (X.690 8.1.3, 10.1)."""
        start = self._at + 2
        length = self._octet(self._at + 1)
        if length >= _LONG_FORM:
            count = length - _LONG_FORM
            if not 0 < count <= _MOST_LENGTH_OCTETS:
                raise NotDerError("a length is indefinite, or beyond all reason")
            length = int.from_bytes(self._data[start : start + count], "big")
            if length < _LONG_FORM or length.bit_length() <= 8 * (count - 1):
                raise NotDerError("a length is not in its shortest form")
            start += count
        if start + length > len(self._data):
            raise NotDerError("an element ends beyond what is there")
        return start, start + length

    def _octet(self, at: int) -> int:
        if at >= len(self._data):
            raise NotDerError("an element ends beyond what is there")
        return self._data[at]


def _shortest(number: int) -> int:
    """Return how many octets of two's complement a number takes."""
    return (number if number >= 0 else ~number).bit_length() // 8 + 1
