"""A batch of devices: for each a key, made once, and its two partition images.

The key is made here, on the host, and that is the weaker way: who reads the folder, or the flash of a device
without flash encryption, has it. A device that can make its own key should.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError
from firmware_scripts.esp.nvs import nvs_image
from fleet.files import read_secret_bytes, write_file
from fleet.station.drivers.esp_secure_cert import private_key_of, secure_cert_image

MAX_LIST = 16 << 20
"""Octets of a list of devices."""
_COLUMNS = ["device_id", "hardware"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A device of the list; `hardware` is what its label says, or nothing."""

    device_id: str
    hardware: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What every device of the batch needs to find its fleet."""

    bootstrap: str
    """HOST:PORT of the bootstrap listener."""
    anchors: tuple[bytes, ...]
    """Whom it believes to be the server, DER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The two images of a device, and its public key."""

    secure_cert: Path
    nvs: Path
    public_key: bytes
    """SubjectPublicKeyInfo, DER."""


def read_units(text: str) -> list[Unit]:
    """Read a list with the columns `device_id` and, if there is one, `hardware` (RFC 4180).

    Raises:
        ValueError: a column is unknown, an id is bad or there twice; with the line.
    """
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    header = [name.strip() for name in next(rows, [])]
    if header not in (_COLUMNS, _COLUMNS[:1]):
        raise ValueError("line 1: the columns must be device_id and, if known, hardware")
    units: dict[str, Unit] = {}
    for row in filter(None, rows):
        try:
            unit = Unit(device_id=parse_device_id(row[0]), hardware="".join(row[1:2]))
        except MalformedMessageError as error:
            raise ValueError(f"line {rows.line_num}: {error}") from error
        if len(row) != len(header) or unit.device_id in units:
            raise ValueError(f"line {rows.line_num}: a value too many or too few, or a device named twice")
        units[unit.device_id] = unit
    return list(units.values())


def make_images(unit: Unit, fleet: Fleet, folder: Path) -> Images:
    """Make a device's images in a folder; a key that is there from an earlier run is used again.

    Raises:
        ValueError: the values do not fit, or an image that is there holds no key.
        FleetError: the folder cannot be written, or others can read an image that is there.
    """
    secure_cert, nvs = folder / f"{unit.device_id}.secure_cert.bin", folder / f"{unit.device_id}.nvs.bin"
    settings = nvs_image({"device_id": unit.device_id, "bootstrap": fleet.bootstrap})
    try:
        key = private_key_of(read_secret_bytes(secure_cert)) if secure_cert.exists() else _new_key()
        image = secure_cert_image(key=key, chain=[], anchors=fleet.anchors)
    except MalformedMessageError as error:
        raise ValueError(f"{secure_cert}: {error}") from error
    write_file(secure_cert, image)
    write_file(nvs, settings)
    public = load_der_private_key(key, None).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Images(secure_cert=secure_cert, nvs=nvs, public_key=spki)


def _new_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
