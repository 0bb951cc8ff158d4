"""Labels of units from templates: text, ZPL for label printers, or a picture with a QR code.

A template is a text with {names} in it. The QR code keeps to the alphanumeric set of ISO/IEC 18004, which is
small and the same on every keyboard that a scanner pretends to be.
"""

import json
import string
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Self

from device_agent.wire.fields import parse_object
from fleet.errors import BadInputError, UsageError
from fleet.station.telling.dots import HEIGHT, dots_of

QR_SIGNS = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")
_MOST_TEMPLATE_BYTES = 64 * 1024
_LONGEST = 256
_WHICH = "--label text, zpl or png"
_MODULE, _LETTER, _QUIET = 6, 4, 4
_DOTS_A_METRE = 7992
"""Of a printer with 203 dots an inch."""


class Form(StrEnum):
    """What a template makes; the ending of its file."""

    TEXT = "txt"
    ZPL = "zpl"
    PNG = "png"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelText:
    """What may stand on a label."""

    device_id: str
    hardware_id: str
    serial: str
    label: str
    station: str
    date: str

    @property
    def values(self) -> Mapping[str, str]:
        """Return what the names of a template stand for."""
        return asdict(self) | {"qr": qr_text(self)}

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `encode` wrote; raises MalformedMessageError."""
        found = parse_object(text.encode())
        return cls(**{each.name: found.any_text(each.name, longest=_LONGEST) for each in fields(cls)})


NAMES = frozenset({*(each.name for each in fields(LabelText)), "qr"})


def qr_text(text: LabelText) -> str:
    """Return what the code says: an id without capitals in capitals, else the serial: both tell it apart."""
    wanted = text.device_id.upper()
    is_plain = text.device_id == text.device_id.lower()
    return wanted if is_plain and QR_SIGNS.issuperset(wanted) else text.serial.upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A label without its unit."""

    form: Form
    text: str

    @classmethod
    def load(cls, name: str) -> Self:
        """Read `text`, `zpl` or `png` of this package, or a file that ends in .txt, .zpl or .png.txt.

        Raises:
            BadInputError: it cannot be read, or names what no label has.
        """
        own = {"text": "device.txt", "zpl": "device.zpl", "png": "device.png.txt"}
        try:
            if name in own:
                path = Path(own[name])
                content = files(__package__).joinpath("templates", path.name).read_bytes()
            else:
                path = Path(name)
                content = path.read_bytes()[: _MOST_TEMPLATE_BYTES + 1]
            text = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"cannot read the label template {name}", hint=_WHICH) from error
        return cls.parse(_form_of(path), text)

    @classmethod
    def parse(cls, form: Form, text: str) -> Self:
        """Take a template's text.

        Raises:
            BadInputError: it is too long, or a name in it is none of `NAMES`.
        """
        if len(text) > _MOST_TEMPLATE_BYTES:
            raise BadInputError(f"a label template has at most {_MOST_TEMPLATE_BYTES} characters")
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise BadInputError(f"the label template is wrong: {error}", hint="{{ is a brace") from error
        for _, name, spec, conversion in parts:
            if name is not None and (name not in NAMES or spec or conversion):
                raise BadInputError(
                    f"no label has {{{name}}}", hint=f"names of a template: {', '.join(sorted(NAMES))}"
                )
        return cls(form=form, text=text)

    def render(self, text: LabelText) -> bytes:
        """Return the label as the printer takes it.

        Raises:
            UsageError: a picture is wanted, and segno is not installed.
        """
        values = text.values
        if self.form is Form.ZPL:
            values = {name: _zpl(value) for name, value in values.items()}
        drawn = self.text.format(**values)
        return _picture(drawn.rstrip("\n").split("\n")) if self.form is Form.PNG else drawn.encode()


def _form_of(path: Path) -> Form:
    match path.suffixes[-2:]:
        case [".png", ".txt"]:
            return Form.PNG
        case [*_, ".txt"]:
            return Form.TEXT
        case [*_, ".zpl"]:
            return Form.ZPL
        case _:
            raise BadInputError(f"{path} ends neither in .txt, .zpl nor .png.txt", hint=_WHICH)


def _zpl(value: str) -> str:
    """Take the signs away by which ZPL begins its commands."""
    return "".join(sign for sign in value if sign not in "^~" and sign.isprintable())


def _picture(lines: Sequence[str]) -> bytes:
    """Return a PNG: a QR code of the first line, the others beside it."""
    code = _qr(lines[0])
    words = [dots_of(line) for line in lines[1:]]
    high = max(len(code) * _MODULE, (len(words) * (HEIGHT + 2) + 2) * _LETTER)
    wide = len(code) * _MODULE + (max((len(word[0]) for word in words), default=0) + 4) * _LETTER
    rows = [bytearray(b"\xff" * -(-wide // 8)) for _ in range(high)]
    _ink(rows, code, at=(0, 0), size=_MODULE)
    for number, word in enumerate(words):
        place = (len(code) * _MODULE, (number * (HEIGHT + 2) + 2) * _LETTER)
        _ink(rows, word, at=place, size=_LETTER)
    return _png(rows, wide)


def _qr(content: str) -> Sequence[Sequence[bool]]:
    try:
        import segno  # noqa: PLC0415 - behind the extra `labels`
    except ImportError as error:
        raise UsageError("segno is not installed", hint="pip install 'fleet-provisioning[labels]'") from error
    code = segno.make_qr(content, error="m", boost_error=False)
    return [[bool(dot) for dot in row] for row in code.matrix_iter(border=_QUIET)]


def _ink(
    rows: Sequence[bytearray], dots: Sequence[Sequence[bool]], *, at: tuple[int, int], size: int
) -> None:
    left, top = at
    for y, row in enumerate(dots):
        for x, dot in enumerate(row):
            if dot:
                for bit in range(left + x * size, left + (x + 1) * size):
                    for line in rows[top + y * size : top + (y + 1) * size]:
                        line[bit // 8] &= ~(0x80 >> bit % 8)


def _png(rows: Sequence[bytearray], wide: int) -> bytes:
    """Return a picture of one bit a dot (ISO/IEC 15948)."""
    head = struct.pack(">IIBBBBB", wide, len(rows), 1, 0, 0, 0, 0)
    size = struct.pack(">IIB", _DOTS_A_METRE, _DOTS_A_METRE, 1)
    octets = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 9)
    chunks = ((b"IHDR", head), (b"pHYs", size), (b"IDAT", octets), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
