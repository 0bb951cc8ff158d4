"""The serial bootloader in the ROM of an ESP32, with its flash: Espressif's serial protocol over SLIP.

Only what writing and reading flash without a stub needs; any other command is answered as the ROM does one
that it does not know.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_END, _ESCAPE = 0xC0, 0xDB
_DETECT = 0x40001000
_ESP32 = 0x00F01D83
_EFUSE = 0x3FF5A000
_SPI = 0x3FF42000
_FLASH_ID = 0x001640C8
"""4 MB, of a common maker."""
_FLASH_BYTES = 0x10000
_UNKNOWN = 0x05


def slip(packet: bytes) -> bytes:
    escaped = packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return bytes((_END,)) + escaped + bytes((_END,))


@dataclass
class EspRom:
    """A chip in download mode."""

    mac: bytes = bytes.fromhex("246f28a1b2c3")
    flash: bytearray = field(default_factory=lambda: bytearray(b"\xff" * _FLASH_BYTES))
    written: list[int] = field(default_factory=list)
    """Offsets of what was written."""
    spoils: bool = False
    dies_after: int | None = None
    """So many blocks are written, and then nothing is answered any more."""
    _registers: dict[int, int] = field(default_factory=dict)
    _coming: bytes = b""
    _at: int = 0

    def power_cycle(self) -> None:
        self._coming, self._registers, self.dies_after = b"", {}, None

    def feed(self, octets: bytes) -> bytes:
        self._coming += octets
        return b"".join(slip(answer) for packet in self._packets() for answer in self._answers(packet))

    def _packets(self) -> Iterator[bytes]:
        while self._coming.count(_END) >= 2:
            _, _, rest = self._coming.partition(bytes((_END,)))
            packet, _, self._coming = rest.partition(bytes((_END,)))
            if packet:
                yield packet.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
            else:
                self._coming = bytes((_END,)) + self._coming

    def _answers(self, packet: bytes) -> list[bytes]:
        if len(packet) < 8 or packet[0] != 0 or self.dies_after == 0:
            return []
        command, body = packet[1], packet[8:]
        if command == 0x08:
            # The ROM answers a sync eight times.
            return [_reply(command, value=0x20120707)] * 8
        done = self._perform(command, body)
        if done is None:
            return [_reply(command, status=b"\x01" + bytes((_UNKNOWN,)) + b"\0\0")]
        value, data = done
        return [_reply(command, value=value, data=data)]

    def _perform(self, command: int, body: bytes) -> tuple[int, bytes] | None:
        match command:
            case 0x02:
                self._at = struct.unpack_from("<4I", body)[3]
                erased = struct.unpack_from("<I", body)[0]
                self.flash[self._at : self._at + erased] = b"\xff" * erased
                self.written.append(self._at)
                return 0, b""
            case 0x03:
                return self._write(body)
            case 0x04 | 0x0B | 0x0D | 0x0F:
                return 0, b""
            case 0x09:
                address, value = struct.unpack_from("<2I", body)
                self._registers[address] = value
                return 0, b""
            case 0x0A:
                return self._register(struct.unpack("<I", body)[0]), b""
            case 0x0E:
                offset, length = struct.unpack_from("<2I", body)
                return 0, bytes(self.flash[offset : offset + length]).ljust(64, b"\xff")
            case 0x13:
                offset, length = struct.unpack_from("<2I", body)
                return 0, hashlib.md5(self.flash[offset : offset + length]).hexdigest().encode()
            case _:
                return None

    def _write(self, body: bytes) -> tuple[int, bytes]:
        length = struct.unpack_from("<I", body)[0]
        block = body[16 : 16 + length]
        if self.spoils:
            block = b"\0" + block[1:]
        self.flash[self._at : self._at + length] = block
        self._at += length
        if self.dies_after is not None:
            self.dies_after -= 1
        return 0, b""

    def _register(self, address: int) -> int:
        if address == _DETECT:
            return _ESP32
        if address == _EFUSE + 4:
            return int.from_bytes(self.mac[2:])
        if address == _EFUSE + 8:
            return int.from_bytes(self.mac[:2])
        if address == _SPI:
            return 0
        if address == _SPI + 0x80:
            return _FLASH_ID
        return self._registers.get(address, 0)


def _reply(command: int, *, value: int = 0, data: bytes = b"", status: bytes = b"\0\0\0\0") -> bytes:
    body = data + status
    return struct.pack("<BBHI", 1, command, len(body), value) + body
