"""Reads the members of an untrusted JSON object, each with its type and its bounds.

Errors name the member and the rule, never the value.
"""

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from device_agent.wire.identity import parse_device_id, parse_serial, parse_sha256
from device_agent.wire.problems import MalformedMessageError

_Word = TypeVar("_Word", bound=StrEnum)

MAX_BODY_BYTES = 64 * 1024
MAX_LIST_LENGTH = 64
MAX_PEM_LENGTH = 48 * 1024
MAX_SECONDS = 366 * 24 * 3600

_HALF = re.compile(r"[\ud800-\udfff]")
"""Half of a surrogate pair, which is no character."""
_PEM = re.compile(r"\s*-----BEGIN [\x20-\x7e\s]*\Z")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedMessageError("body names a member twice")
    return members


def _refuse_constant(_name: str) -> object:
    raise MalformedMessageError("body holds a number that JSON does not have (RFC 8259 6)")


def parse_object(body: bytes) -> "Fields":
    """Return the members of a JSON object of at most 64 KiB (RFC 8259).

    Raises:
        MalformedMessageError: the bytes are no such object.
    """
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessageError(f"body must not exceed {MAX_BODY_BYTES} bytes")
    try:
        value: object = json.loads(
            body.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except MalformedMessageError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError("body is not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise MalformedMessageError("body must be a JSON object")
    return Fields(value)


class Fields:
    """The members of one object; each method takes one, checks it, and returns it typed.

    Every method raises `MalformedMessageError` when the member is missing or out of its bounds.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = members

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None

    def names(self) -> frozenset[str]:
        """Return the names of all members, for a party that refuses what it does not know."""
        return frozenset(self._members)

    def text(self, name: str, *, longest: int) -> str:
        """Return text of 1 to `longest` characters, with no control characters."""
        value = self._members.get(name)
        if isinstance(value, str) and 1 <= len(value) <= longest and value.isprintable():
            return value
        raise MalformedMessageError(f"{name} must be printable text of 1 to {longest} characters")

    def any_text(self, name: str, *, longest: int) -> str:
        """Return text of at most `longest` characters, whatever they are but halves of one (RFC 8259 8.2)."""
        value = self._members.get(name)
        if isinstance(value, str) and len(value) <= longest and not _HALF.search(value):
            return value
        raise MalformedMessageError(f"{name} must be text of at most {longest} characters")

    def text_members(self, name: str, *, longest: int) -> dict[str, str]:
        """Return the members of an object of at most 64, each a text of at most `longest` characters."""
        value = self._members.get(name)
        if isinstance(value, dict) and len(value) <= MAX_LIST_LENGTH:
            members = {key: text for key, text in value.items() if isinstance(key, str)}
            if all(isinstance(text, str) and len(text) <= longest for text in members.values()):
                return members
        raise MalformedMessageError(f"{name} must be an object of at most {MAX_LIST_LENGTH} texts")

    def integer(self, name: str, *, lowest: int, highest: int) -> int:
        """Return an integer in a closed range; `true` is none."""
        value = self._members.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        raise MalformedMessageError(f"{name} must be an integer from {lowest} to {highest}")

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self._members.get(name)
        if isinstance(value, bool):
            return value
        raise MalformedMessageError(f"{name} must be true or false")

    def pem(self, name: str) -> str:
        """Return PEM text (RFC 7468), unparsed: at most 48 KiB of ASCII that opens as PEM does."""
        value = self._members.get(name)
        if isinstance(value, str) and len(value) <= MAX_PEM_LENGTH and _PEM.match(value):
            return value
        raise MalformedMessageError(f"{name} must be PEM text of at most {MAX_PEM_LENGTH} characters")

    def time(self, name: str) -> datetime:
        """Return an RFC 3339 time in UTC, written with `Z`."""
        value = self._members.get(name)
        if isinstance(value, str) and len(value) <= 32 and value.endswith("Z"):
            try:
                return datetime.fromisoformat(value[:-1]).replace(tzinfo=UTC)
            except ValueError:
                pass
        raise MalformedMessageError(f"{name} must be an RFC 3339 time in UTC")

    def seconds(self, name: str) -> int:
        """Return a duration in whole seconds, up to a year."""
        return self.integer(name, lowest=0, highest=MAX_SECONDS)

    def device_id(self, name: str) -> str:
        """Return a device id."""
        return parse_device_id(self._members.get(name))

    def serial(self, name: str) -> str:
        """Return a certificate serial number, 32 lower-case hex."""
        return parse_serial(self._members.get(name))

    def sha256(self, name: str) -> str:
        """Return a SHA-256, 64 lower-case hex."""
        return parse_sha256(self._members.get(name))

    def base64(self, name: str, *, longest: int) -> bytes:
        """Return the bytes behind base64 (RFC 4648 4, strict) of at most `longest` bytes."""
        value = self._members.get(name)
        if isinstance(value, str) and 1 <= len(value) <= longest * 4 // 3 + 4:
            try:
                return base64.b64decode(value, validate=True)
            except ValueError:  # binascii.Error, or no ASCII at all
                pass
        raise MalformedMessageError(f"{name} must be base64 of 1 to {longest} bytes")

    def hex(self, name: str, *, lowest: int, highest: int) -> bytes:
        """Return the bytes behind hex digits, `lowest` to `highest` of them in bytes."""
        value = self._members.get(name)
        if isinstance(value, str) and 2 * lowest <= len(value) <= 2 * highest and value.isascii():
            try:
                return bytes.fromhex(value)
            except ValueError:
                pass
        raise MalformedMessageError(f"{name} must be hex of {lowest} to {highest} bytes")

    def texts(self, name: str, *, longest: int) -> tuple[str, ...]:
        """Return a list of at most 64 printable texts."""
        value = self._members.get(name)
        items = value if isinstance(value, list) and len(value) <= MAX_LIST_LENGTH else [None]
        if all(isinstance(item, str) and len(item) <= longest and item.isprintable() for item in items):
            return tuple(items)
        raise MalformedMessageError(f"{name} must be a list of at most {MAX_LIST_LENGTH} texts")

    def sha256s(self, name: str) -> tuple[str, ...]:
        """Return a list of at most 64 SHA-256 digests; absent counts as empty."""
        if name not in self:
            return ()
        return tuple(parse_sha256(item) for item in self.texts(name, longest=64))

    def word(self, name: str, *, of: type[_Word]) -> _Word:
        """Return one of the words of an enumeration."""
        try:
            return of(self.text(name, longest=32))
        except ValueError as error:
            raise MalformedMessageError(f"{name} must be one of {', '.join(of)}") from error

    def objects(self, name: str, *, most: int) -> "tuple[Fields, ...]":
        """Return the members of each object of a list of at most `most`."""
        value = self._members.get(name)
        items = value if isinstance(value, list) and len(value) <= most else [None]
        found = tuple(Fields(item) for item in items if isinstance(item, dict))
        if len(found) == len(items):
            return found
        raise MalformedMessageError(f"{name} must be a list of at most {most} objects")

    def object(self, name: str) -> "Fields":
        """Return the members of an object inside this one."""
        value = self._members.get(name)
        if isinstance(value, dict):
            return Fields(value)
        raise MalformedMessageError(f"{name} must be an object")


def time_text(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC, whole seconds.

    Raises:
        ValueError: the time has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time on the wire needs a zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
