"""Names of devices, domains and fleets: their alphabets, and what is derived from them.

It never accepts what it would have to clean up first: a name is right or refused.
"""

import hashlib
import re
from dataclasses import dataclass

from device_agent.wire.problems import MalformedMessageError

MAX_DEVICE_ID_LENGTH = 64
MAX_DOMAIN_LENGTH = 32

# No ".": NATS reads it as a level of a subject. No "+", "#", "/": MQTT 3.1.1 4.7 gives them a meaning.
_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,63}", re.ASCII)
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.ASCII)
_SERIAL = re.compile(r"[0-9a-f]{32}", re.ASCII)
# RFC 5280 4.1.2.2: at most 20 octets. What fits into 16 is written with 32 digits.
_LONG_SERIAL = re.compile(r"(?!0{8})[0-9a-f]{40}", re.ASCII)
_SHA256_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)

_HASHED_LABEL_PREFIX = "h-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a leaf speaks for: one device in one security domain."""

    domain: str
    device_id: str

    @property
    def name(self) -> str:
        """Broker user name and client id, `<domain>:<id>`."""
        return f"{self.domain}:{self.device_id}"


def parse_device_id(text: object) -> str:
    """Return the device id: 1 to 64 of `A-Z a-z 0-9 _ : -`, first a letter or digit.

    Raises:
        MalformedMessageError: it is anything else.
    """
    if isinstance(text, str) and _DEVICE_ID.fullmatch(text):
        return text
    raise MalformedMessageError(
        "device id must be 1 to 64 of A-Z a-z 0-9 _ : - and start with a letter or digit"
    )


def parse_domain(text: object) -> str:
    """Return the domain or fleet name: a DNS label of 1 to 32 of `a-z 0-9 -` (RFC 1035 2.3.1).

    Raises:
        MalformedMessageError: it is anything else.
    """
    if isinstance(text, str) and len(text) <= MAX_DOMAIN_LENGTH and _DNS_LABEL.fullmatch(text):
        return text
    raise MalformedMessageError("name must be a DNS label: 1 to 32 of a-z 0-9 -, no hyphen at an edge")


def parse_name(text: object) -> Identity:
    """Return the identity behind a broker name `<domain>:<id>`.

    Raises:
        MalformedMessageError: it is anything else.
    """
    if not isinstance(text, str):
        raise MalformedMessageError("broker name must be <domain>:<device id>")
    domain, _, device_id = text.partition(":")
    return Identity(domain=parse_domain(domain), device_id=parse_device_id(device_id))


def parse_serial(text: object) -> str:
    """Return a certificate serial number: 16 octets as 32 lower-case hex.

    Raises:
        MalformedMessageError: it is anything else.
    """
    if isinstance(text, str) and _SERIAL.fullmatch(text):
        return text
    raise MalformedMessageError("serial must be 32 lower-case hex digits")


def parse_shown_serial(text: object) -> str:
    """Return the serial number of a certificate that another CA may have made, as `serial_hex` writes it.

    Raises:
        MalformedMessageError: it is anything else.
    """
    if isinstance(text, str) and (_SERIAL.fullmatch(text) or _LONG_SERIAL.fullmatch(text)):
        return text
    raise MalformedMessageError("serial must be 32 lower-case hex digits, or 40 where it is longer")


def parse_sha256(text: object) -> str:
    """Return a SHA-256 digest: 64 lower-case hex.

    Raises:
        MalformedMessageError: it is anything else.
    """
    if isinstance(text, str) and _SHA256_HEX.fullmatch(text):
        return text
    raise MalformedMessageError("digest must be the 64 lower-case hex digits of a SHA-256")


def dns_label(device_id: str) -> str:
    """Return the DNS label that stands for a device id in its leaf's SAN.

    The id itself where it is a label already (RFC 1035 2.3.1), else `h-` and 32 hex of SHA-256(id).
    """
    is_label = len(device_id) <= 63 and _DNS_LABEL.fullmatch(device_id)
    if is_label and not device_id.startswith(_HASHED_LABEL_PREFIX):
        return device_id
    return _HASHED_LABEL_PREFIX + hashlib.sha256(device_id.encode()).hexdigest()[:32]


def dns_name(identity: Identity, *, fleet: str) -> str:
    """Return the SAN dNSName of a leaf: `<label>.<domain>.<fleet>`."""
    return f"{dns_label(identity.device_id)}.{identity.domain}.{fleet}"


def station_dns_name(identity: Identity, *, station: str, fleet: str) -> str:
    """Return the SAN dNSName of a leaf that a station made off line: `<label>.<station>.<domain>.<fleet>`."""
    return f"{dns_label(identity.device_id)}.{station}.{identity.domain}.{fleet}"


def serial_hex(serial_number: int) -> str:
    """Return a serial number as 32 lower-case hex; 40 where another CA's has more than 16 octets."""
    return f"{serial_number:032x}" if serial_number < 1 << 128 else f"{serial_number:040x}"
