"""Reads the list of an adopted fleet: which certificate stands for which device. All of it, or nothing."""

import base64
import binascii
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO

from cryptography import x509

from device_agent.wire.identity import parse_device_id, serial_hex
from device_agent.wire.problems import MalformedMessageError
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError

MAX_LEAVES = 1000
"""Of one list that is handed in; larger ones come in parts."""
_COLUMNS = frozenset({"device_id", "serial", "fingerprint", "certificate"})
_UNREADABLE: tuple[type[Exception], ...] = (MalformedMessageError, binascii.Error, *UNREADABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedLeaf:
    """A row of a list: which device, and what is known of its certificate."""

    place: str
    device_id: str
    serial: str = ""
    fingerprint: str = ""
    certificate: x509.Certificate | None = None


def read_list(text: str) -> tuple[ListedLeaf, ...]:
    """Read a list, CSV with a heading: device_id, and serial, fingerprint or certificate (base64 of its DER).

    Raises:
        BadInputError: with the line that is wrong; nothing of the list counts then.
    """
    reader = csv.DictReader(StringIO(text), strict=True)
    try:
        names = frozenset(reader.fieldnames or ())
        if "device_id" not in names or not names <= _COLUMNS or len(names) < 2:
            raise BadInputError(
                "the list needs the columns device_id and serial, fingerprint or certificate",
                hint="its first line names them, parted by commas",
            )
        found = tuple(_rows(reader))
    except csv.Error as error:
        raise BadInputError(f"line {reader.line_num} is no CSV: {error}") from error
    if not 1 <= len(found) <= MAX_LEAVES:
        raise BadInputError(f"the list holds {len(found)} devices, and may hold 1 to {MAX_LEAVES}")
    return found


def _rows(reader: "csv.DictReader[str]") -> Iterator[ListedLeaf]:
    for row in reader:
        place = f"line {reader.line_num}"
        values = {name: (row.get(name) or "").strip() for name in _COLUMNS}
        if None in row or not any(values[name] for name in _COLUMNS - {"device_id"}):
            raise BadInputError(f"{place} names no certificate of {values['device_id']!a}")
        try:
            yield ListedLeaf(
                place=place,
                device_id=parse_device_id(values["device_id"]),
                serial=_serial(values["serial"]),
                fingerprint=_hex(values["fingerprint"], digits=64),
                certificate=_certificate(values["certificate"]),
            )
        except _UNREADABLE as error:
            raise BadInputError(f"{place}: {error}") from error


def _serial(text: str) -> str:
    digits = text.lower().replace(":", "").removeprefix("0x").lstrip("0")
    if not text:
        return ""
    if not digits or len(digits) > 40 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError("serial must be hex, of at most 20 octets")
    return serial_hex(int(digits, 16))


def _hex(text: str, *, digits: int) -> str:
    plain = text.lower().replace(":", "")
    if plain and (len(plain) != digits or not set(plain) <= set("0123456789abcdef")):
        raise ValueError(f"fingerprint must be the {digits} hex digits of a SHA-256")
    return plain


def _certificate(text: str) -> x509.Certificate | None:
    return x509.load_der_x509_certificate(base64.b64decode(text, validate=True)) if text else None
