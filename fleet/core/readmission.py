"""How an operator who has no certificate any more comes back: by the voices of others, never by his own word.

Whoever vouches compares a code that only the two ends of a key know, heard over another way than this one.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address, ip_network
from types import MappingProxyType

from fleet.core.crockford import ALPHABET, grouped, plain, spelled
from fleet.core.second_person import OWNER, Person, why_same_hand
from fleet.errors import BadInputError

VOICES = 2
"""So many others must vouch, where there are so many."""

_SIGNS = 12
_IPV6 = 6
_SPOKEN = re.compile(rf"[{ALPHABET}]{{{_SIGNS}}}")


class ReadmissionState(StrEnum):
    """Where a plea stands; stored by name."""

    OPEN = "open"
    AGREED = "agreed"
    """Enough others vouched: the certificate is being made."""
    DONE = "done"
    DENIED = "denied"
    EXPIRED = "expired"


class ReadmissionEvent(StrEnum):
    """What happens to a plea."""

    AGREE = "agree"
    FINISH = "finish"
    DENY = "deny"
    EXPIRE = "expire"


_State, _Event = ReadmissionState, ReadmissionEvent

TRANSITIONS: Mapping[tuple[ReadmissionState, ReadmissionEvent], ReadmissionState] = MappingProxyType(
    {
        (_State.OPEN, _Event.AGREE): _State.AGREED,
        (_State.OPEN, _Event.DENY): _State.DENIED,
        (_State.OPEN, _Event.EXPIRE): _State.EXPIRED,
        (_State.AGREED, _Event.FINISH): _State.DONE,
        # It could not be signed yet, and somebody has noticed that it is a fraud.
        (_State.AGREED, _Event.DENY): _State.DENIED,
    }
)
"""What is not in here is refused."""


def spoken_code(key_hash: str) -> str:
    """Return what the person reads out and others type: 60 bits of the key's hash, in three groups of four.

    Longer than a device's short code: what is let in may act on the whole fleet, and somebody may have the
    time to look for another key with the same code.
    """
    digest = hashlib.sha256(b"fleet-readmission\0" + bytes.fromhex(key_hash)).digest()
    return spelled(digest, signs=_SIGNS)


def read_spoken(text: str) -> str:
    """Return a code as `spoken_code` writes it; case, hyphens, spaces and look-alikes do not count.

    Raises:
        BadInputError: it is none.
    """
    if not _SPOKEN.fullmatch(plain(text)):
        raise BadInputError("that is no code of three groups of four", hint="such as 7K3M-9QXZ-0H2P")
    return grouped(plain(text))


def heard(
    voices: frozenset[str], people: Mapping[str, Person], *, operator: str, since: datetime
) -> frozenset[str]:
    """Return whose voices count apart: made operators before the plea, by neither him nor another voice."""
    return frozenset(
        each
        for each in voices
        if not why_same_hand(each, people, of=(voices | {operator}) - {each}, since=since)
    )


def is_agreed(voices: frozenset[str], *, others: frozenset[str]) -> bool:
    """Tell whether those who vouched are enough; `others` are all who may do everything, but the one himself.

    Two of them and the owner of the home, or the owner alone where there are not two others: he has the keys
    of everything, so that a small fleet is never locked out and a larger one asks two people.
    """
    if len(others) >= VOICES:
        return len(voices & (others | {OWNER})) >= VOICES
    return OWNER in voices


def needs(others: frozenset[str]) -> str:
    """Return whose word is needed, in words for anybody: they name nobody."""
    if len(others) >= VOICES:
        return "two of the other operators of the role security and the owner of the home"
    return "the owner of the home"


def source_of(address: str) -> str:
    """Return what counts as one place: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network(f"{found}/64", strict=False)) if found.version == _IPV6 else str(found)


def crowded_out(addresses: Sequence[str], *, most: int) -> int | None:
    """Return which of some pleas has to go for another one, the oldest first; None where there is room.

    It is the oldest of the place that asks most: who floods the list pushes himself out.
    """
    if len(addresses) < most:
        return None
    places = [source_of(address) for address in addresses]
    crowd = Counter(places)
    return max(range(len(places)), key=lambda number: (crowd[places[number]], -number))
