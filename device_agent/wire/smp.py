"""SMP, the management protocol of MCUmgr: an 8-byte header and a CBOR map with text keys.

It reads envelopes of any group; what the factory group's messages mean stands in `wire.factory`.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from device_agent.wire import cbor
from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError

DEFAULT_GROUP = 71
"""The factory group unless both ends are told another; user groups start at 64."""
LOWEST_GROUP = 64
HIGHEST_GROUP = 0xFFFF
OS_GROUP = 0
OS_PARAMETERS = 6
"""OS group, "MCUmgr parameters": what stock SMP clients ask first."""

_HEADER = struct.Struct(">BBHHBB")

_Word = TypeVar("_Word", bound=IntEnum)


class Op(IntEnum):
    """What a packet is; a response is its request's op plus one."""

    READ = 0
    READ_RESPONSE = 1
    WRITE = 2
    WRITE_RESPONSE = 3


class Version(IntEnum):
    """Of SMP. Version 2 tells errors as `err: {group, rc}`."""

    V1 = 0
    V2 = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The SMP header without the length, which is that of the body."""

    op: Op
    group: int
    sequence: int
    """One octet, echoed by the response."""
    command: int
    version: Version = Version.V2

    def response(self) -> "Header":
        """Return the header that answers this one."""
        return Header(
            op=Op(self.op | 1),
            group=self.group,
            sequence=self.sequence,
            command=self.command,
            version=self.version,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A header and the members of its map."""

    header: Header
    body: "Members"


def encode(header: Header, members: Mapping[str, cbor.Item]) -> bytes:
    """Return one SMP message."""
    body = cbor.encode(dict(members))
    first = header.version << 3 | header.op
    return (
        _HEADER.pack(first, 0, len(body), header.group, header.sequence & 0xFF, header.command & 0xFF) + body
    )


def parse_header(message: bytes) -> Header:
    """Return the header of a message.

    Raises:
        MalformedMessageError: too short, a length that is not the body's, or an op or version unknown.
    """
    if len(message) < _HEADER.size:
        raise MalformedMessageError("SMP message is shorter than its header")
    first, _flags, length, group, sequence, command = _HEADER.unpack_from(message)
    if length != len(message) - _HEADER.size:
        raise MalformedMessageError("SMP length is not that of the body")
    try:
        op, version = Op(first & 0b111), Version(first >> 3 & 0b11)
    except ValueError as error:
        raise MalformedMessageError("SMP op or version is unknown") from error
    return Header(op=op, group=group, sequence=sequence, command=command, version=version)


def parse(message: bytes) -> Packet:
    """Return a whole message; raises `MalformedMessageError` as `parse_header`, and for a bad body."""
    header = parse_header(message)
    body = cbor.decode(message[_HEADER.size :])
    if not isinstance(body, dict):
        raise MalformedMessageError("SMP body must be a CBOR map")
    return Packet(header=header, body=Members(body))


class Members:
    """The members of one map; each method takes one, checks it, and returns it typed.

    Every method raises `MalformedMessageError` when the member is missing or out of its bounds; the
    error names the member, never the value. Members that nobody asks for are ignored.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, cbor.Item]) -> None:
        self._members = members

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None

    def octets(self, name: str, *, lowest: int, highest: int) -> bytes:
        """Return a byte string of `lowest` to `highest` bytes."""
        value = self._members.get(name)
        if isinstance(value, bytes) and lowest <= len(value) <= highest:
            return value
        raise MalformedMessageError(f"{name} must be a byte string of {lowest} to {highest} bytes")

    def integer(self, name: str, *, lowest: int = 0, highest: int) -> int:
        """Return an integer in a closed range; a boolean is none."""
        value = self._members.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        raise MalformedMessageError(f"{name} must be an integer from {lowest} to {highest}")

    def flag(self, name: str) -> bool:
        """Return whether a flag is set: 1 or true; absent counts as not."""
        value = self._members.get(name)
        if value in (None, 0, 1):
            return bool(value)
        raise MalformedMessageError(f"{name} must be 0 or 1")

    def text(self, name: str, *, longest: int) -> str:
        """Return text of at most `longest` characters, with no control characters."""
        value = self._members.get(name)
        if isinstance(value, str) and len(value) <= longest and value.isprintable():
            return value
        raise MalformedMessageError(f"{name} must be printable text of at most {longest} characters")

    def device_id(self, name: str) -> str:
        """Return a device id."""
        return parse_device_id(self._members.get(name))

    def one_of(self, words: type[_Word], name: str) -> _Word:
        """Return a member of an enumeration of integers."""
        try:
            return words(self.integer(name, highest=0xFF))
        except ValueError as error:
            raise MalformedMessageError(f"{name} is a number without a meaning") from error

    def all_octets(self, name: str, *, most: int, longest: int) -> tuple[bytes, ...]:
        """Return an array of 1 to `most` byte strings of 1 to `longest` bytes."""
        value = self._members.get(name)
        if isinstance(value, list) and 1 <= len(value) <= most:
            octets = tuple(item for item in value if isinstance(item, bytes) and 1 <= len(item) <= longest)
            if len(octets) == len(value):
                return octets
        raise MalformedMessageError(f"{name} must be an array of 1 to {most} byte strings")

    def map(self, name: str) -> "Members":
        """Return the members of a map inside this one."""
        value = self._members.get(name)
        if isinstance(value, dict):
            return Members(value)
        raise MalformedMessageError(f"{name} must be a map")
