"""Images as they stand on a command line: `PLACE=FILE`, each read once, none over another."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_IMAGE = 64 << 20
"""Octets of one image; no flash that these tools write is larger."""

_LAST_ADDRESS = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What is to be written, and where."""

    place: int
    """The address of its first octet: an offset in flash, or an address of the chip, as its tool has it."""
    path: Path
    octets: bytes

    @property
    def end(self) -> int:
        """The address after its last octet."""
        return self.place + len(self.octets)


def parse_images(words: Sequence[str]) -> list[Image]:
    """Read each `PLACE=FILE`; return the images in the order of their places.

    Raises:
        ValueError: a place is no number, a file is empty or too large, or two images overlap.
        OSError: a file cannot be read.
    """
    images = sorted(map(_image, words), key=lambda image: image.place)
    for lower, upper in itertools.pairwise(images):
        if upper.place < lower.end:
            raise ValueError(f"{lower.path} ends at {lower.end:#x}, over {upper.path} at {upper.place:#x}")
    return images


def read_image(path: Path, *, place: int) -> Image:
    """Read one image; raises as `parse_images` does."""
    with path.open("rb") as file:
        octets = file.read(MAX_IMAGE + 1)
    if not octets:
        raise ValueError(f"{path} is empty")
    image = Image(place=place, path=path, octets=octets)
    if len(octets) > MAX_IMAGE or image.end - 1 > _LAST_ADDRESS:
        raise ValueError(f"{path} is too large for its place: at most {MAX_IMAGE >> 20} MiB, below 4 GiB")
    return image


def parse_place(text: str) -> int:
    """Return an address that is written in decimal, or in hex after 0x; raises ValueError."""
    try:
        place = int(text, 0)
    except ValueError:
        place = -1
    if not 0 <= place <= _LAST_ADDRESS:
        raise ValueError(f"{text} is no address: write it like 0xD000")
    return place


def _image(word: str) -> Image:
    place, equals, name = word.partition("=")
    if not equals or not name:
        raise ValueError(f"{word} must be PLACE=FILE, like 0xD000=secure_cert.bin")
    return read_image(Path(name), place=parse_place(place))
