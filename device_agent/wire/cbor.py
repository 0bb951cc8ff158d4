"""CBOR as the factory link uses it (RFC 8949): integers, octets, text, booleans, null, arrays, maps.

It is our own because a general decoder builds more than is wanted from untrusted bytes: tags (regular
expressions, cycles, big numbers), floats, deep nesting. It never allocates by an announced length, only by
what is there. What is left for an encoder is so little that no device needs a library for it.
"""

from typing import TypeAlias

from device_agent.wire.problems import MalformedMessageError

Item: TypeAlias = "int | bytes | str | bool | list[Item] | dict[str, Item] | None"

_MAX_DEPTH = 4
_MAX_ENTRIES = 64
_BREAK = 0xFF
_INDEFINITE = 31
_SIMPLE: dict[int, bool | None] = {20: False, 21: True, 22: None}
_FALSE, _TRUE, _NULL = b"\xf4", b"\xf5", b"\xf6"


def encode(value: Item) -> bytes:
    """Return a value as CBOR, always the same bytes for the same value (RFC 8949 4.2.1).

    Raises:
        ValueError: an integer takes more than 64 bits.
    """
    match value:
        case None:
            return _NULL
        case bool():
            return _TRUE if value else _FALSE
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            text = value.encode()
            return _head(3, len(text)) + text
        case list():
            return _head(4, len(value)) + b"".join(map(encode, value))
        case dict():
            pairs = sorted((encode(name), encode(member)) for name, member in value.items())
            return _head(5, len(value)) + b"".join(name + member for name, member in pairs)


def decode(octets: bytes) -> Item:
    """Return the one value that the bytes hold.

    Raises:
        MalformedMessageError: they hold none, more than one, or one of a kind that is not used here.
    """
    reader = _Reader(octets)
    value = reader.item(_MAX_DEPTH)
    if reader.at != len(octets):
        raise MalformedMessageError("CBOR is followed by other bytes")
    return value


def _head(major: int, argument: int) -> bytes:
    """Return the first bytes of an item, its argument in as few as hold it (RFC 8949 3)."""
    if argument < 24:
        return bytes([major << 5 | argument])
    for extra, length in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * length:
            return bytes([major << 5 | extra]) + argument.to_bytes(length, "big")
    raise ValueError("an integer of CBOR has 64 bits at most")


class _Reader:
    """Walks over the bytes once."""

    __slots__ = ("_octets", "at")

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.at = 0

    def item(self, depth: int) -> Item:
        first = self._take(1)[0]
        major, extra = first >> 5, first & 0x1F
        if major == 7 and extra in _SIMPLE:
            return _SIMPLE[extra]
        length = self._argument(extra, indefinite=major in (4, 5))
        match major:
            case 0 if length is not None:
                return length
            case 1 if length is not None:
                return -1 - length
            case 2 if length is not None:
                return self._take(length)
            case 3 if length is not None:
                return self._text(length)
            case 4:
                return self._array(length, depth - 1)
            case 5:
                return self._map(length, depth - 1)
            case _:
                raise MalformedMessageError(
                    "CBOR holds a tag, a float or a simple value; none has a meaning here"
                )

    def _take(self, length: int) -> bytes:
        taken = self._octets[self.at : self.at + length]
        if len(taken) != length:
            raise MalformedMessageError("CBOR ends too early")
        self.at += length
        return taken

    def _argument(self, extra: int, *, indefinite: bool) -> int | None:
        if extra < 24:
            return extra
        if extra < 28:
            return int.from_bytes(self._take(1 << (extra - 24)), "big")
        # MCUmgr servers write maps of indefinite length (RFC 8949 3.2.2), so those are taken.
        if extra == _INDEFINITE and indefinite:
            return None
        raise MalformedMessageError("CBOR has a length of a kind that is not used here")

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedMessageError("CBOR text is not UTF-8") from error

    def _more(self, count: int, length: int | None, depth: int) -> bool:
        if depth < 0 or count > _MAX_ENTRIES:
            raise MalformedMessageError("CBOR is nested too deep, or has too many entries")
        if length is not None:
            return count < length
        if self._octets[self.at : self.at + 1] == bytes([_BREAK]):
            self.at += 1
            return False
        return True

    def _array(self, length: int | None, depth: int) -> list[Item]:
        items: list[Item] = []
        while self._more(len(items), length, depth):
            items.append(self.item(depth))
        return items

    def _map(self, length: int | None, depth: int) -> dict[str, Item]:
        members: dict[str, Item] = {}
        while self._more(len(members), length, depth):
            key = self.item(depth)
            if not isinstance(key, str) or key in members:
                raise MalformedMessageError("CBOR map has a key that is no text, or has one twice")
            members[key] = self.item(depth)
        return members
