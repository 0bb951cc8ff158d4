"""Frames of the factory link: SMP-console lines and COBS, each with a CRC16, told apart by what decodes.

A decoder never keeps more than one frame of the longest size, whatever bytes come, and it never raises:
bytes that are no frame (log lines, noise) are skipped. A CRC16 lets a broken frame pass now
and then: whoever uses these frames checks the contents as well.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from enum import StrEnum

MAX_MESSAGE_BYTES = 4096
"""Longest SMP message, header included, that either side takes."""
MIN_MESSAGE_BYTES = 8
"""An SMP header."""
MAX_LINE_BYTES = 127
"""Longest SMP-console line, with its newline (mcumgr serial transport; `smp` packs the same)."""

_START = b"\x06\x09"
_CONTINUE = b"\x04\x14"
_LINE_PAYLOAD = (MAX_LINE_BYTES - len(_START) - 1) // 4 * 4
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{2,}={0,2}")
_CRC_BYTES = 2
_LENGTH_BYTES = 2
_MAX_STUFFED = MAX_MESSAGE_BYTES + _CRC_BYTES + (MAX_MESSAGE_BYTES + _CRC_BYTES) // 254 + 1


class Framing(StrEnum):
    """How messages are cut out of the stream of bytes."""

    LINES = "lines"
    """`06 09` / `04 14` lines in base64: what Zephyr, Mynewt and MCUboot speak."""
    COBS = "cobs"
    """`COBS(message || CRC16) 00`, about a quarter fewer bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One message that came with a right CRC, and how it was framed."""

    message: bytes
    framing: Framing


def crc16(octets: bytes) -> int:
    """Return the CRC16-XMODEM (polynomial 0x1021, start 0)."""
    return binascii.crc_hqx(octets, 0)


def encode(message: bytes, framing: Framing) -> bytes:
    """Return the bytes of one frame.

    Raises:
        ValueError: the message is longer than either side takes.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message must not exceed {MAX_MESSAGE_BYTES} bytes")
    checked = message + crc16(message).to_bytes(_CRC_BYTES, "big")
    return _ENCODERS[framing](checked)


def encode_burst(message: bytes, framing: Framing) -> bytes:
    """Return a frame as it is put on a line that may hold the start of something else.

    The delimiter before a COBS frame parts it from a boot log or from noise; a line needs none.
    """
    opening = b"\x00" if framing is Framing.COBS else b""
    return opening + encode(message, framing)


def _to_lines(checked: bytes) -> bytes:
    text = base64.b64encode(len(checked).to_bytes(_LENGTH_BYTES, "big") + checked)
    lines = [text[at : at + _LINE_PAYLOAD] for at in range(0, len(text), _LINE_PAYLOAD)]
    return b"".join((_CONTINUE if at else _START) + line + b"\n" for at, line in enumerate(lines))


def _to_cobs(checked: bytes) -> bytes:
    return stuff(checked) + b"\x00"


_ENCODERS = {Framing.LINES: _to_lines, Framing.COBS: _to_cobs}


def stuff(octets: bytes) -> bytes:
    """Return octets without zeros (Consistent Overhead Byte Stuffing, Cheshire and Baker 1999)."""
    blocks = []
    for run in octets.split(b"\x00"):
        full, rest = divmod(len(run), 254)
        blocks += [b"\xff" + run[at * 254 : at * 254 + 254] for at in range(full)]
        blocks.append(bytes([rest + 1]) + run[full * 254 :])
    return b"".join(blocks)


def unstuff(octets: bytes) -> bytes | None:
    """Return what was stuffed, or None where the block lengths do not fit."""
    out = bytearray()
    at = 0
    while at < len(octets):
        code = octets[at]
        block = octets[at + 1 : at + code]
        if code == 0 or len(block) != code - 1:
            return None
        out += block
        at += code
        if code != 0xFF and at < len(octets):
            out.append(0)
    return bytes(out)


def _checked_message(checked: bytes) -> bytes | None:
    message, crc = checked[:-_CRC_BYTES], checked[-_CRC_BYTES:]
    if not MIN_MESSAGE_BYTES <= len(message) <= MAX_MESSAGE_BYTES:
        return None
    # The length in the SMP header must fit too: a CRC that starts at 0 is blind to zeros in front.
    if int.from_bytes(message[2:4], "big") != len(message) - MIN_MESSAGE_BYTES:
        return None
    return message if crc16(message).to_bytes(_CRC_BYTES, "big") == crc else None


class LineDecoder:
    """Finds messages in SMP-console lines; other lines, and text before a marker, are skipped."""

    __slots__ = ("_line", "_packet", "broken")

    def __init__(self) -> None:
        self._line = bytearray()
        self._packet: bytearray | None = None
        self.broken = 0
        """Frames that began and came to a wrong end."""

    def feed(self, octets: bytes) -> list[bytes]:
        """Take bytes as they come; return the messages that they complete."""
        head, *more = octets.split(b"\n")
        self._keep(head)
        messages = []
        for piece in more:
            message = self._end_of_line()
            self._keep(piece)
            messages += [] if message is None else [message]
        return messages

    def _keep(self, octets: bytes) -> None:
        # Only the tail of a long line can be one of ours.
        self._line += octets[-MAX_LINE_BYTES:]
        del self._line[:-MAX_LINE_BYTES]

    def _end_of_line(self) -> bytes | None:
        line = bytes(self._line).removesuffix(b"\r")
        self._line.clear()
        start, following = line.rfind(_START), line.rfind(_CONTINUE)
        # The markers are no base64, so the last one in the line is the only one that can be right.
        fragment = _fragment(line[max(start, following) + 2 :]) if max(start, following) >= 0 else None
        if fragment is None:
            return None
        return self._join(fragment, opens=start > following)

    def _join(self, fragment: bytes, *, opens: bool) -> bytes | None:
        if opens:
            self.broken += self._packet is not None
            self._packet = bytearray()
        if self._packet is None:
            return None
        self._packet += fragment
        expected = _LENGTH_BYTES + int.from_bytes(self._packet[:_LENGTH_BYTES], "big")
        if len(self._packet) < expected <= _LENGTH_BYTES + MAX_MESSAGE_BYTES + _CRC_BYTES:
            return None
        packet, self._packet = bytes(self._packet), None
        message = _checked_message(packet[_LENGTH_BYTES:]) if len(packet) == expected else None
        self.broken += message is None
        return message


def _fragment(text: bytes) -> bytes | None:
    """Whole base64 only: `06 09` and a newline occur inside COBS frames too."""
    if len(text) % 4 or not _BASE64.fullmatch(text):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


class CobsDecoder:
    """Finds messages between zeros; a run too long to be one is skipped up to the next zero."""

    __slots__ = ("_run", "_skips", "broken")

    def __init__(self) -> None:
        self._run = bytearray()
        self._skips = False
        self.broken = 0
        """Runs between zeros that were no frame."""

    def feed(self, octets: bytes) -> list[bytes]:
        """Take bytes as they come; return the messages that they complete."""
        head, *more = octets.split(b"\x00")
        self._keep(head)
        messages = []
        for piece in more:
            message = self._end_of_run()
            self._keep(piece)
            messages += [] if message is None else [message]
        return messages

    def _keep(self, octets: bytes) -> None:
        self._skips = self._skips or len(self._run) + len(octets) > _MAX_STUFFED
        if self._skips:
            self._run.clear()
        else:
            self._run += octets

    def _end_of_run(self) -> bytes | None:
        run, skipped = bytes(self._run), self._skips
        self._run.clear()
        self._skips = False
        if skipped or not run:
            self.broken += skipped
            return None
        checked = unstuff(run)
        message = None if checked is None else _checked_message(checked)
        self.broken += message is None
        return message


class Decoder:
    """Reads both framings from one stream, so that nobody has to say which one is spoken."""

    __slots__ = ("_cobs", "_lines")

    def __init__(self) -> None:
        self._lines = LineDecoder()
        self._cobs = CobsDecoder()

    @property
    def broken(self) -> int:
        """How many frames came broken since the start, in either framing: a measure of the noise."""
        return self._lines.broken + self._cobs.broken

    def feed(self, octets: bytes) -> list[Frame]:
        """Take bytes as they come; return the messages that they complete, in their order."""
        frames = [Frame(message=message, framing=Framing.LINES) for message in self._lines.feed(octets)]
        frames += [Frame(message=message, framing=Framing.COBS) for message in self._cobs.feed(octets)]
        return frames
