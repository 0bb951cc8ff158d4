"""Reads lists of devices, row by row: CSV, JSON, JSON lines, or a signed manifest of secure elements.

A row names a device, what is known of it, and by which key, certificate or TPM its maker says it comes. What
does not know all of a row does not guess: an unknown column or member is refused, with the row's place.
"""

import base64
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from device_agent.wire.fields import Fields, parse_object
from device_agent.wire.identity import Identity, parse_device_id, parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.attest.secure_elements import Signer, UnfitEntryError, read_element
from fleet.core.things import Thing, ThingKind, certificate_thing, key_thing
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError
from fleet.model import ClientKind
from fleet.ra.devices import Registration

MAX_WORDS = 200
"""Of `hardware` and `note`, in characters."""
_LONGEST_THING = 16 * 1024

_PLAIN = frozenset({"device_id", "domain", "kind", "batch", "hardware", "note"})
_THINGS = frozenset({"public_key", "certificate", "certificate_serial", "ek"})
_MEMBERS = _PLAIN | _THINGS
_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SERIAL = re.compile(r"([a-z0-9-]{1,32}):0*([0-9a-fA-F]{1,40})", re.ASCII)
_PEM_LINES = re.compile(r"-----[A-Z ]+-----|\s", re.ASCII)


class ImportFormat(StrEnum):
    """How a list is written."""

    AUTO = "auto"
    """One of the others, by how it begins."""
    CSV = "csv"
    """A header line with the names of the columns, then a line a device (RFC 4180)."""
    JSON = "json"
    """An array of objects."""
    JSONL = "jsonl"
    """A JSON object a line."""
    SECURE_ELEMENTS = "secure-elements"
    """An array of signed entries, as Microchip gives with its secure elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """A list, as it was handed in; `domain` is that of devices that name none."""

    text: str
    format: ImportFormat
    domain: str
    signer: Signer | None = None
    """Who has signed its entries, where they are signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One device of a list; `place` says where it stands."""

    place: str
    registration: Registration
    things: tuple[Thing, ...] = ()


def rows_of(roster: Roster) -> Iterator[Row]:
    """Yield the rows of a list; raises `BadInputError` with the place of what is wrong."""
    form = _guessed(roster.text) if roster.format is ImportFormat.AUTO else roster.format
    if roster.signer is not None and form is not ImportFormat.SECURE_ELEMENTS:
        raise BadInputError(
            "only the entries of secure elements are signed", hint="leave --signer out for this list"
        )
    yield from _FORMATS[form](roster)


def wrong(place: str, text: str) -> BadInputError:
    """Return the error for a row."""
    return BadInputError(f"{place}: {text}", hint="nothing was registered: mend the list, then try again")


def _guessed(text: str) -> ImportFormat:
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start == "{":
        return ImportFormat.JSONL
    if start != "[":
        return ImportFormat.CSV
    first = next(_objects(text), None)
    is_signed = first is not None and first[1].names() & {"protected", "payload", "signature"}
    return ImportFormat.SECURE_ELEMENTS if is_signed else ImportFormat.JSON


def _from_csv(roster: Roster) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(roster.text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_members("line 1", header)
        for row in reader:
            place = f"line {reader.line_num}"
            if row and len(row) != len(header):
                raise wrong(place, f"{len(row)} values for {len(header)} columns")
            if row:
                given = {name: value for name, value in zip(header, row, strict=True) if value}
                yield _row(place, given, domain=roster.domain)
    except csv.Error as error:
        raise wrong(f"line {reader.line_num}", f"no CSV: {error}") from error


def _from_lines(roster: Roster) -> Iterator[Row]:
    for number, line in enumerate(roster.text.splitlines(), start=1):
        place = f"line {number}"
        if not line.strip():
            continue
        try:
            fields = parse_object(line.encode("utf-8", errors="replace"))
        except MalformedMessageError as error:
            raise wrong(place, str(error)) from error
        yield _from_object(place, fields, roster.domain)


def _from_array(roster: Roster) -> Iterator[Row]:
    for place, fields in _objects(roster.text):
        yield _from_object(place, fields, roster.domain)


def _from_elements(roster: Roster) -> Iterator[Row]:
    if roster.signer is None:
        raise BadInputError(
            "the entries of this list are signed", hint="name whose signature counts: --signer CERT"
        )
    for place, fields in _objects(roster.text):
        try:
            element = read_element(fields, roster.signer)
            identity = Identity(
                domain=parse_domain(roster.domain), device_id=parse_device_id(element.unique_id)
            )
        except (UnfitEntryError, MalformedMessageError) as error:
            raise wrong(place, str(error)) from error
        registration = Registration(identity=identity, hardware=element.model)
        yield Row(place=place, registration=registration, things=element.things)


_FORMATS: Mapping[ImportFormat, Callable[[Roster], Iterator[Row]]] = {
    ImportFormat.CSV: _from_csv,
    ImportFormat.JSON: _from_array,
    ImportFormat.JSONL: _from_lines,
    ImportFormat.SECURE_ELEMENTS: _from_elements,
}


def _objects(text: str) -> Iterator[tuple[str, Fields]]:
    """Yield the objects of a JSON array one by one: the array as a whole never stands in memory."""
    decoder, number = json.JSONDecoder(), 0
    at = _skip(text, len(text) - len(text.removeprefix("\ufeff")))
    if text[at : at + 1] != "[":
        raise wrong("the beginning", "it is no JSON array")
    sign = "," if _next(text, at + 1) != "]" else "]"
    while sign == ",":
        number += 1
        place = f"entry {number}"
        try:
            found, end = decoder.raw_decode(text, _skip(text, at + 1))
        except (ValueError, RecursionError) as error:
            raise wrong(place, "it is not JSON") from error
        if not isinstance(found, dict):
            raise wrong(place, "it is no JSON object")
        yield place, Fields(found)
        at, sign = _skip(text, end), _next(text, end)
        if sign not in {",", "]"}:
            raise wrong(place, "neither another entry nor the end of the list follows it")
    end = text.index("]", at) + 1
    if text[end:].strip():
        raise wrong("the end", "something follows the list")


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in " \t\r\n":
        at += 1
    return at


def _next(text: str, at: int) -> str:
    at = _skip(text, at)
    return text[at : at + 1]


def _from_object(place: str, fields: Fields, domain: str) -> Row:
    _check_members(place, fields.names())
    try:
        given = {
            name: fields.text(name, longest=_LONGEST_THING if name in _THINGS else MAX_WORDS)
            for name in _MEMBERS
            if name in fields
        }
    except MalformedMessageError as error:
        raise wrong(place, str(error)) from error
    return _row(place, given, domain=domain)


def _check_members(place: str, names: Iterable[str]) -> None:
    given = list(names)
    if len(set(given)) != len(given) or "device_id" not in given or not set(given) <= _MEMBERS:
        raise wrong(place, f"must name device_id, and may name {', '.join(sorted(_MEMBERS))}")


def _row(place: str, given: Mapping[str, str], *, domain: str) -> Row:
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
        things = tuple(_thing(name, given[name]) for name in sorted(_THINGS & given.keys()))
    except ValueError as error:
        raise wrong(place, str(error)) from error
    return Row(place=place, registration=registration, things=things)


def _words(given: Mapping[str, str], name: str) -> str:
    words = given.get(name, "")
    if len(words) > MAX_WORDS or not words.isprintable():
        raise MalformedMessageError(f"{name} must be printable text of at most {MAX_WORDS} characters")
    return words


def _thing(name: str, value: str) -> Thing:
    """Return what a column says: a SHA-256 in hex, or the thing itself in base64 DER or PEM."""
    if name == "certificate_serial":
        match = _SERIAL.fullmatch(value)
        if match is None:
            raise MalformedMessageError("certificate_serial must be <manufacturer>:<serial number in hex>")
        return Thing(kind=ThingKind.SERIAL, value=f"{match[1]}:{match[2].lower()}")
    kind = _KINDS[name]
    if _SHA256.fullmatch(value):
        return Thing(kind=kind, value=value.lower())
    try:
        der = base64.b64decode(_PEM_LINES.sub("", value), validate=True)
        if kind is ThingKind.CERTIFICATE:
            return certificate_thing(x509.load_der_x509_certificate(der))
        key = load_der_public_key(der)
        return key_thing(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), kind=kind)
    except UNREADABLE as error:  # a broken base64 is a ValueError
        raise MalformedMessageError(f"{name} must be a SHA-256 in hex, or DER in base64, or PEM") from error


_KINDS: Mapping[str, ThingKind] = {
    "public_key": ThingKind.KEY,
    "certificate": ThingKind.CERTIFICATE,
    "ek": ThingKind.EK,
}
