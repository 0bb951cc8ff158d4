"""Texts that people read, say and type: Crockford's base32, in groups of four.

Nobody can take two of its signs for one another, and what looks alike is read as the same.
"""

import base64

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_OF_BASE32 = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ALPHABET)
_LOOK_ALIKES = str.maketrans("ILO", "110", "- \t\r\n")
_GROUP = 4


def spelled(octets: bytes, *, signs: int) -> str:
    """Return the first signs of some octets, five bits each, in groups of four."""
    text = base64.b32encode(octets).decode().translate(_OF_BASE32)[:signs]
    return grouped(text)


def grouped(text: str) -> str:
    """Return a text in groups of four."""
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def plain(text: str) -> str:
    """Return what somebody typed, in capitals: hyphens and spaces do not count, I and L are 1, and O is 0."""
    return text.upper().translate(_LOOK_ALIKES)
