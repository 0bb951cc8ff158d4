"""Raw images of a firmware: what of an ELF file lies in flash, for boot loaders and flashing tools."""

from pathlib import Path

_PT_LOAD = 1
_ERASED = b"\xff"
_MAGIC = b"\x7fELF\x01\x01"
"""A 32-bit file, least significant octet first (System V ABI 4)."""


def flat_image(elf: Path) -> bytes:
    """Return the loaded segments by their physical addresses, from the lowest one on.

    Raises:
        ValueError: the file is no ELF of a microcontroller.
    """
    octets = elf.read_bytes()
    if not octets.startswith(_MAGIC):
        raise ValueError(f"{elf} is no ELF file of a 32-bit part")
    segments = sorted(_segments(octets))
    if not segments:
        raise ValueError(f"{elf} holds nothing to load")
    base = segments[0][0]
    image = bytearray()
    for address, content in segments:
        image += _ERASED * (address - base - len(image)) + content
    return bytes(image)


def _segments(octets: bytes) -> list[tuple[int, bytes]]:
    table, size, count = _word(octets, 28), _half(octets, 42), _half(octets, 44)
    found = []
    for at in range(table, table + size * count, size):
        kind, offset, address, length = (_word(octets, at + place) for place in (0, 4, 12, 16))
        if kind == _PT_LOAD and length:
            found.append((address, octets[offset : offset + length]))
    return found


def _word(octets: bytes, at: int) -> int:
    return int.from_bytes(octets[at : at + 4], "little")


def _half(octets: bytes, at: int) -> int:
    return int.from_bytes(octets[at : at + 2], "little")
