"""What the connection history is made of: contacts, and when two of them are one row.

Pure. It bounds what strangers can make us keep: texts are cut, repeats are counted, and where too many
differ at once they are kept as one, without what tells them apart.
"""

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleet.core.causes import Cause
from fleet.model import BrokerEventKind

ALIKE_FOR = timedelta(minutes=10)
"""Contacts that are alike are one row so long."""
MOST_STRANGERS, MOST_OF_ONE = 64, 8
"""Rows that all strangers together, and one device, can make of what waits to be kept."""
_LONGEST = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Somebody who connected, left or was refused; `name` is what the certificate was called there."""

    kind: BrokerEventKind
    place: str
    cause: Cause | None = None
    """Of a refusal."""
    ending: str = ""
    """How a connection ended, in the broker's word."""
    domain: str = ""
    device_id: str = ""
    name: str = ""
    issuer: str = ""
    serial: str = ""
    address: str = ""
    first_at: datetime
    last_at: datetime
    times: int = 1

    @property
    def word(self) -> str:
        """The cause, or how it ended."""
        return self.ending if self.cause is None else self.cause.value

    @property
    def likeness(self) -> str:
        """SHA-256 over all but time and number, hex."""
        parts = (self.kind.value, self.place, self.word, self.name, self.issuer, self.serial, self.address)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def contact(
    *,
    kind: BrokerEventKind,
    place: str,
    at: datetime,
    cause: Cause | None = None,
    ending: str = "",
    name: str = "",
    subject: str = "",
    issuer: str = "",
    serial: str = "",
    address: str = "",
) -> Contact:
    """Return a contact whose texts are short and printable, whatever a stranger has sent.

    `name` is what a broker vouches for; `subject` is a stranger's word, and nobody's name here.
    """
    domain, colon, device_id = _plain(name).partition(":")
    return Contact(
        kind=kind,
        place=_plain(place),
        cause=cause,
        ending=_plain(ending),
        domain=domain if colon else "",
        device_id=device_id,
        name=_plain(name or subject),
        issuer=_plain(issuer),
        serial=_plain(serial),
        address=_plain(address),
        first_at=at,
        last_at=at,
    )


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text[:_LONGEST])


def gathered(contacts: Iterable[Contact]) -> tuple[Contact, ...]:
    """Return contacts with those that are alike as one, in the order of their first."""
    found: dict[str, Contact] = {}
    made: Counter[tuple[str, str]] = Counter()
    for one in contacts:
        likeness = one.likeness
        if likeness not in found:
            who = (one.domain, one.device_id)
            made[who] += 1
            if made[who] > (MOST_OF_ONE if one.device_id else MOST_STRANGERS):
                one = _blurred(one)  # noqa: PLW2901 - the same contact, without what sets it apart
                likeness = one.likeness
        found[likeness] = joined(found[likeness], one) if likeness in found else one
    return tuple(found.values())


def joined(before: Contact, one: Contact) -> Contact:
    """Return two contacts that are alike as one."""
    return replace(
        before,
        first_at=min(before.first_at, one.first_at),
        last_at=max(before.last_at, one.last_at),
        times=before.times + one.times,
    )


def _blurred(one: Contact) -> Contact:
    if one.device_id:
        return replace(one, issuer="", serial="", address="")
    return replace(one, name="", issuer="", serial="", address="")


def address_key(address: str) -> str:
    """Return an address as 32 hex digits that sort as addresses do; the empty text for what is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return f"{_mapped(found):032x}"


def network_keys(network: str) -> tuple[str, str] | None:
    """Return the keys of the first and last address of a network or address, None for what is none."""
    try:
        found = ipaddress.ip_network(network, strict=False)
    except ValueError:
        return None
    return f"{_mapped(found.network_address):032x}", f"{_mapped(found.broadcast_address):032x}"


def _mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    """Return an address as IPv6 (RFC 4291 2.5.5.2)."""
    return int(address) | (0xFFFF << 32 if address.version == 4 else 0)
