"""Badges and PINs of line operators: what is kept can check one, and tells none.

A PIN is short, so each guess is made dear by scrypt (RFC 7914). All verifiers of a station share a salt: a
badge that is shown without a name is hashed once, not once for each operator.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret

SALT_BYTES = 16
SHORTEST = 4
LONGEST = 64
WORK_FACTOR = 14
_HIGHEST_FACTOR = 17
_NAME = "scrypt"
_HASH_BYTES = 32


def verifier_of(badge: Secret, *, salt: bytes, work_factor: int = WORK_FACTOR) -> str:
    """Return what checks a badge later; scrypt's N is 2 to the work factor.

    Raises:
        MalformedMessageError: it is shorter or longer than a badge or PIN is, or not printable.
    """
    text = badge.reveal()
    if not SHORTEST <= len(text) <= LONGEST or not text.isprintable():
        raise MalformedMessageError(f"a badge or PIN has {SHORTEST} to {LONGEST} printable characters")
    parts = (_NAME, str(work_factor), _text(salt), _text(_hash(text, salt, work_factor)))
    return "$".join(parts)


def salt_of(verifier: str) -> bytes:
    """Return the salt of a verifier. Raises `MalformedMessageError`."""
    return _parts(verifier)[1]


def who_shows(badge: Secret, verifiers: Iterable[tuple[str, str]]) -> str | None:
    """Return whose badge it is, of (name, verifier); a verifier that cannot be read is nobody's."""
    text, hashed, found = badge.reveal()[: LONGEST + 1], dict[tuple[bytes, int], bytes](), None
    for name, verifier in verifiers:
        try:
            work_factor, salt, expected = _parts(verifier)
        except MalformedMessageError:
            continue
        if (salt, work_factor) not in hashed:
            hashed[salt, work_factor] = _hash(text, salt, work_factor)
        if hmac.compare_digest(hashed[salt, work_factor], expected):
            found = name
    return found


def _parts(verifier: str) -> tuple[int, bytes, bytes]:
    name, _, rest = verifier.partition("$")
    factor, _, rest = rest.partition("$")
    salt, _, expected = rest.partition("$")
    try:
        found = int(factor), base64.b64decode(salt, validate=True), base64.b64decode(expected, validate=True)
    except (ValueError, binascii.Error) as error:
        raise MalformedMessageError("a verifier of a badge cannot be read") from error
    if name != _NAME or not 1 <= found[0] <= _HIGHEST_FACTOR or len(found[2]) != _HASH_BYTES:
        raise MalformedMessageError("a verifier of a badge cannot be read")
    return found


def _hash(text: str, salt: bytes, work_factor: int) -> bytes:
    return hashlib.scrypt(
        text.encode(), salt=salt, n=1 << work_factor, r=8, p=1, maxmem=256 * 1024 * 1024, dklen=_HASH_BYTES
    )


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
