"""Reads lists of devices to register, CSV or JSON lines: a list is right as a whole, or refused."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from device_agent.wire.fields import Fields, parse_object
from device_agent.wire.identity import Identity, parse_device_id, parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import BadInputError
from fleet.model import ClientKind
from fleet.ra.desk import Desk
from fleet.ra.devices import Enlisting, Registration, enlist, require_domain

MAX_TEXT_LENGTH = 16 * 1024 * 1024
MAX_DEVICES = 100_000
MAX_WORDS = 200
"""Of `hardware` and `note`, in characters."""

_AT_ONCE = 500
"""Registrations of one unit of work, so that devices are still answered in between."""

_MEMBERS = frozenset({"device_id", "domain", "kind", "batch", "hardware", "note"})


class ImportFormat(StrEnum):
    """How a list is written."""

    CSV = "csv"
    """A header line with the names of the columns, then a line a device (RFC 4180)."""
    JSONL = "jsonl"
    """A JSON object a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """A list, as it was handed in; `domain` is that of devices that name none."""

    text: str
    format: ImportFormat
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How many devices a list held, and how many of them were new."""

    listed: int
    registered: int


async def import_devices(desk: Desk, roster: Roster, *, actor: str) -> Imported:
    """Register the devices of a list; those registered already stay as they are, so a list may come twice.

    Raises:
        BadInputError: a line is wrong, or an id comes twice; nothing was registered.
        NotFoundError: the configuration has no such domain; nothing was registered.
    """
    registrations = parse_roster(roster)
    for domain in sorted({registration.identity.domain for registration in registrations}):
        require_domain(desk, domain)
    new, at = 0, desk.clock()
    for first in range(0, len(registrations), _AT_ONCE):
        part = registrations[first : first + _AT_ONCE]
        new += await desk.store.write(enlist, Enlisting(registrations=part, actor=actor, at=at))
    return Imported(listed=len(registrations), registered=new)


def parse_roster(roster: Roster) -> tuple[Registration, ...]:
    """Return what a list holds; raises `BadInputError` with the number of the line."""
    if len(roster.text) > MAX_TEXT_LENGTH:
        raise BadInputError(f"the list is longer than {MAX_TEXT_LENGTH} characters", hint="split it")
    found: list[Registration] = []
    seen: set[Identity] = set()
    for number, registration in _FORMATS[roster.format](roster):
        if registration.identity in seen:
            raise _wrong(number, f"{registration.identity.name} is listed twice")
        if len(found) == MAX_DEVICES:
            raise BadInputError(f"the list holds more than {MAX_DEVICES} devices", hint="split it")
        seen.add(registration.identity)
        found.append(registration)
    return tuple(found)


def _from_csv(roster: Roster) -> Iterator[tuple[int, Registration]]:
    reader = csv.reader(io.StringIO(roster.text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_members(1, header)
        for row in reader:
            if row and len(row) != len(header):
                raise _wrong(reader.line_num, f"{len(row)} values for {len(header)} columns")
            if row:
                given = {name: value for name, value in zip(header, row, strict=True) if value}
                yield reader.line_num, _registration(reader.line_num, given, domain=roster.domain)
    except csv.Error as error:
        raise _wrong(reader.line_num, f"no CSV: {error}") from error


def _from_lines(roster: Roster) -> Iterator[tuple[int, Registration]]:
    for number, line in enumerate(roster.text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = parse_object(line.encode("utf-8", errors="replace"))
        except MalformedMessageError as error:
            raise _wrong(number, str(error)) from error
        _check_members(number, fields.names())
        yield number, _registration(number, _texts(number, fields), domain=roster.domain)


_FORMATS: dict[ImportFormat, Callable[[Roster], Iterator[tuple[int, Registration]]]] = {
    ImportFormat.CSV: _from_csv,
    ImportFormat.JSONL: _from_lines,
}


def _texts(number: int, fields: Fields) -> Mapping[str, str]:
    try:
        return {name: fields.text(name, longest=MAX_WORDS) for name in _MEMBERS if name in fields}
    except MalformedMessageError as error:
        raise _wrong(number, str(error)) from error


def _check_members(number: int, names: Iterable[str]) -> None:
    given = list(names)
    if len(set(given)) != len(given) or "device_id" not in given or not set(given) <= _MEMBERS:
        raise _wrong(number, f"must name device_id, and may name {', '.join(sorted(_MEMBERS))}")


def _registration(number: int, given: Mapping[str, str], *, domain: str) -> Registration:
    try:
        identity = Identity(
            domain=parse_domain(given.get("domain", domain)),
            device_id=parse_device_id(given.get("device_id")),
        )
        registration = Registration(
            identity=identity, hardware=_words(given, "hardware"), note=_words(given, "note")
        )
        if "kind" in given:
            registration = replace(registration, kind=ClientKind(given["kind"]))
        if "batch" in given:
            registration = replace(registration, batch=parse_domain(given["batch"]))
    except ValueError as error:
        raise _wrong(number, str(error)) from error
    return registration


def _words(given: Mapping[str, str], name: str) -> str:
    words = given.get(name, "")
    if len(words) > MAX_WORDS or not words.isprintable():
        raise MalformedMessageError(f"{name} must be printable text of at most {MAX_WORDS} characters")
    return words


def _wrong(number: int, text: str) -> BadInputError:
    return BadInputError(
        f"line {number}: {text}", hint="nothing was registered: mend the list, then try again"
    )
