"""Which driver a station works with, by name, and what it may be told.

A driver that makes keys outside of devices has to be allowed in so many words.
"""

import base64
import csv
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, RefusedError, UsageError
from fleet.station.drivers import (
    esp_atecc,
    esp_image,
    esp_secure_cert,
    ncs_shell,
    nrf91_at,
    zephyr_cred,
    zephyr_shell,
)
from fleet.station.drivers.console import Console
from fleet.station.drivers.course import Course, Device
from fleet.station.drivers.driver import Driver
from fleet.station.drivers.esptool import Esptool, require_esptool
from fleet.station.keeping.units import Generation
from fleet.station.link.port import Line, TtyLine

Recall: TypeAlias = Callable[[str], Awaitable[Sequence[Generation]]]
"""Returns what the ledger holds of a hardware id."""
Drivers: TypeAlias = Callable[[Line, Recall], Driver]
"""Returns a driver for the next visit on a line."""

_MOST_CHIPS = 1_000_000
_RESET_LOOK_SECONDS = 5.0
"""Each look at a chip resets it."""


class Name(StrEnum):
    """Names of drivers."""

    SMP = "smp"
    NRF91_AT = "nrf91-at"
    NCS_SHELL = "ncs-shell"
    ZEPHYR_CRED = "zephyr-cred"
    ESP_ATECC = "esp-atecc"
    ESP_IMAGE = "esp-image"
    MICROCHIP_MANIFEST = "microchip-manifest"


class HostKeys(StrEnum):
    """Whether keys may be made by the station."""

    REFUSED = "refused"
    ALLOWED = "allowed"


SETTINGS: Mapping[Name, Mapping[str, str]] = MappingProxyType(
    {
        Name.SMP: {},
        Name.NRF91_AT: {"tag": str(nrf91_at.DEFAULT_TAG), "identities": ""},
        Name.NCS_SHELL: {"tag": str(zephyr_shell.DEFAULT_TAG)},
        Name.ZEPHYR_CRED: {"tag": str(zephyr_shell.DEFAULT_TAG)},
        Name.ESP_ATECC: {"sda": str(esp_atecc.DEFAULT_PINS[0]), "scl": str(esp_atecc.DEFAULT_PINS[1])},
        Name.ESP_IMAGE: {"offset": hex(esp_secure_cert.OFFSET), "reset": "default-reset"},
        Name.MICROCHIP_MANIFEST: {},
    }
)
"""What each driver may be told, with what holds otherwise."""

MAKES_KEYS = frozenset({Name.ZEPHYR_CRED, Name.ESP_IMAGE})
"""Drivers of devices that cannot make a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A driver by name, with settings by name."""

    name: Name = Name.SMP
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    host_keys: HostKeys = HostKeys.REFUSED


def drivers_of(choice: Choice, *, baud: int) -> Drivers | None:
    """Return the driver that was chosen; None is our own, which the station has at hand.

    Raises:
        UsageError: it has no such setting, or a package for it is missing.
        RefusedError: it makes keys, and that was not allowed.
        BadInputError: a setting is none that it can have.
    """
    unknown = choice.settings.keys() - SETTINGS[choice.name].keys()
    if unknown:
        raise UsageError(
            f"driver {choice.name} has no setting {', '.join(sorted(unknown))}", hint=_known(choice)
        )
    if choice.name in MAKES_KEYS and choice.host_keys is HostKeys.REFUSED:
        raise RefusedError(
            f"driver {choice.name} makes the devices' keys on this station, and they cross the line",
            hint="if no other driver fits your devices: --host-keys",
        )
    settings = {**SETTINGS[choice.name], **choice.settings}
    match choice.name:
        case Name.SMP:
            return None
        case Name.MICROCHIP_MANIFEST:
            raise UsageError(
                "a manifest is imported, and nothing is plugged in",
                hint="fleet device import FILE --signer CERT",
            )
        case Name.ESP_IMAGE:
            return _esp_image(settings, baud=baud)
        case _:
            return _on_console(choice.name, settings)


def _known(choice: Choice) -> str:
    names = ", ".join(SETTINGS[choice.name])
    return f"it has {names}" if names else "it has none"


def _on_console(name: Name, settings: Mapping[str, str]) -> Drivers:
    is_atecc = name is Name.ESP_ATECC
    ending = esp_atecc.ENDING if is_atecc else "\r\n"
    prompt = esp_atecc.PROMPT if is_atecc else ""
    device_on = _device_on(name, settings)

    def make(line: Line, recall: Recall) -> Driver:
        console = Console(line, ending=ending, prompt=prompt)
        return Course(device_on(console), recall=recall, spent=lambda: (console.calls, console.wire_bytes))

    return make


def _device_on(name: Name, settings: Mapping[str, str]) -> Callable[[Console], Device]:
    match name:
        case Name.NRF91_AT:
            tag, identities = _number(settings, "tag"), _identities(settings["identities"])
            return lambda console: nrf91_at.Nrf91(console, tag=tag, identities=identities)
        case Name.ESP_ATECC:
            pins = _number(settings, "sda"), _number(settings, "scl")
            return lambda console: esp_atecc.EspAtecc(console, pins=pins)
        case Name.NCS_SHELL:
            tag = _number(settings, "tag")
            return lambda console: ncs_shell.NcsShell(zephyr_shell.Shell(console, tag=tag))
        case _:
            tag = _number(settings, "tag")
            return lambda console: zephyr_cred.ZephyrCred(zephyr_shell.Shell(console, tag=tag))


def _esp_image(settings: Mapping[str, str], *, baud: int) -> Drivers:
    require_esptool()
    offset, reset = _number(settings, "offset"), settings["reset"]

    def make(line: Line, recall: Recall) -> Driver:
        if not isinstance(line, TtyLine):
            raise UsageError("esptool needs a serial port of its own")
        tool = Esptool(line, baud=baud, reset=reset)
        device = esp_image.EspImage(tool, offset=offset)
        return Course(device, recall=recall, spent=lambda: (tool.runs, 0), look_seconds=_RESET_LOOK_SECONDS)

    return make


def _number(settings: Mapping[str, str], name: str) -> int:
    try:
        number = int(settings[name], 0)
    except ValueError as error:
        raise BadInputError(f"setting {name} must be a number") from error
    if not 0 <= number < 2**32:
        raise BadInputError(f"setting {name} must be from 0 to {2**32 - 1}")
    return number


def _identities(path: str) -> Mapping[str, ec.EllipticCurvePublicKey]:
    """Read a CSV file of `uuid,public_key` rows: identity keys of chips, DER in base64.

    Raises:
        BadInputError: a row is not right; the message names its line.
    """
    if not path:
        return MappingProxyType({})
    try:
        rows = list(csv.reader(Path(path).read_text("utf-8").splitlines()[:_MOST_CHIPS]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"cannot read the list of identities {path}") from error
    found: dict[str, ec.EllipticCurvePublicKey] = {}
    for number, row in enumerate(rows, start=1):
        if row and not (number == 1 and row == ["uuid", "public_key"]):
            uuid, key = _identity(row, where=f"{path}:{number}")
            found[uuid] = key
    if not found:
        raise BadInputError(f"the list of identities {path} is empty")
    return MappingProxyType(found)


def _identity(row: list[str], *, where: str) -> tuple[str, ec.EllipticCurvePublicKey]:
    try:
        uuid, encoded = row
        key = load_der_public_key(base64.b64decode(encoded, validate=True))
    except UNREADABLE as error:
        raise BadInputError(f"{where}: must be <uuid>,<public key, DER in base64>") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInputError(f"{where}: the key must be on P-256")
    return uuid.strip().lower(), key
