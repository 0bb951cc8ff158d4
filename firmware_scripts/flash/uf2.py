"""UF2: firmware in blocks of 512 octets, for the drive of a bootloader (Microsoft's UF2 format)."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from firmware_scripts.flash.images import Image

INFO = "INFO_UF2.TXT"
"""What the drive of a UF2 bootloader holds, and no other drive."""

FAMILIES = {
    "esp32": 0x1C5F21B0,
    "esp32c3": 0xD42BA06C,
    "esp32s2": 0xBFDD4EEE,
    "esp32s3": 0xC47E5767,
    "nrf52840": 0xADA52840,
    "rp2040": 0xE48BFF56,
    "rp2350-arm-s": 0xE48BFF59,
    "samd21": 0x68ED2B88,
    "samd51": 0x55114460,
    "stm32f4": 0x57755A57,
}
"""Chips by the names of their makers, and the numbers by which bootloaders refuse each other's firmware."""

_BLOCK = struct.Struct("<8I476sI")
_FIRST_MAGIC, _SECOND_MAGIC, _LAST_MAGIC = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_FAMILY_PRESENT = 0x2000
_PAYLOAD = 256
_COPIED = "FIRMWARE.UF2"


def uf2(image: Image, *, family: int) -> bytes:
    """Return an image as UF2 blocks of 256 octets of payload each."""
    pieces = list(_pieces(image.octets))
    return b"".join(
        _BLOCK.pack(
            _FIRST_MAGIC,
            _SECOND_MAGIC,
            _FAMILY_PRESENT,
            image.place + number * _PAYLOAD,
            len(piece),
            number,
            len(pieces),
            family,
            piece,
            _LAST_MAGIC,
        )
        for number, piece in enumerate(pieces)
    )


def check(blocks: bytes, *, path: Path) -> None:
    """Refuse what is no whole UF2 file; raises ValueError."""
    if len(blocks) % _BLOCK.size:
        raise ValueError(f"{path} is no UF2 file: its length is no multiple of {_BLOCK.size}")
    total = len(blocks) // _BLOCK.size
    for number, block in enumerate(_BLOCK.iter_unpack(blocks)):
        first, second, _flags, _place, length, index, count, _family, _payload, last = block
        if (first, second, last) != (_FIRST_MAGIC, _SECOND_MAGIC, _LAST_MAGIC) or length > 476:
            raise ValueError(f"{path} is no UF2 file: block {number} is not one")
        if (index, count) != (number, total):
            raise ValueError(f"{path} is not whole: block {number} of {total} says {index} of {count}")


def put(blocks: bytes, *, drive: Path) -> None:
    """Copy UF2 blocks to the drive of a bootloader.

    The board restarts with its last block, and its drive goes away: that is no error.

    Raises:
        ValueError: it is no drive of a UF2 bootloader.
        OSError: the drive went away too early, or is full.
    """
    if not (drive / INFO).is_file():
        raise ValueError(f"{drive} has no {INFO}: press the board's reset twice, or hold its BOOTSEL button")
    descriptor = os.open(drive / _COPIED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        rest = memoryview(blocks)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        try:
            os.fsync(descriptor)
        except OSError:
            if drive.exists():
                raise
    finally:
        os.close(descriptor)


def _pieces(octets: bytes) -> Iterator[bytes]:
    for start in range(0, len(octets), _PAYLOAD):
        yield octets[start : start + _PAYLOAD].ljust(_PAYLOAD, b"\0")
