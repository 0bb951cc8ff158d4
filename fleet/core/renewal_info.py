"""How RFC 9773 4.1 names a certificate in the URL that its renewal information stands under."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Self

from device_agent.wire.identity import serial_hex
from device_agent.wire.problems import MalformedMessageError

_LONGEST_PART = 64
_SERIAL_OCTETS = 20
"""RFC 5280 4.1.2.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateName:
    """A certificate by its issuer's key identifier and its serial, both lower-case hex."""

    issuer: str
    serial: str

    def __str__(self) -> str:
        """Return the name: two parts in base64url without padding, the serial as its DER has it."""
        return f"{_text(bytes.fromhex(self.issuer))}.{_text(_der(int(self.serial, 16)))}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name; raises `MalformedMessageError`."""
        match text.split("."):
            case [issuer, serial]:
                return cls(issuer=_octets(issuer).hex(), serial=_serial(_octets(serial)))
            case _:
                raise MalformedMessageError("a certificate is named <key identifier>.<serial> (RFC 9773 4.1)")


def _serial(octets: bytes) -> str:
    number = int.from_bytes(octets, "big")
    if len(octets) > _SERIAL_OCTETS or octets != _der(number):
        raise MalformedMessageError("the serial stands as in the certificate: 1 to 20 octets, as DER has it")
    return serial_hex(number)


def _der(number: int) -> bytes:
    """Return the content of a positive INTEGER (X.690 8.3): the shortest, its first bit 0."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _text(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def _octets(text: str) -> bytes:
    if len(text) > _LONGEST_PART or "=" in text:
        raise MalformedMessageError("the parts of a certificate's name are base64url without padding")
    try:
        found = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError) as error:
        raise MalformedMessageError("the parts of a certificate's name are base64url") from error
    if _text(found) != text:
        raise MalformedMessageError("the parts of a certificate's name are base64url, each written one way")
    return found
