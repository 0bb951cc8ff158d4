"""Nonces for recovery proofs: fresh, short-lived, used once.

It never keeps a nonce that was only asked for: asking costs an attacker's packet, not our memory.
"""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

LIFETIME = timedelta(minutes=2)
_MAX_USED = 100_000
_TAG_BYTES = 16
_RANDOM_BYTES = 8


class Nonces:
    """Gives nonces out and takes each back once; a restart makes all earlier ones stale."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._used: dict[str, datetime] = {}

    def issue(self, *, now: datetime, randomness: bytes) -> str:
        """Return a nonce of 64 hex digits: expiry, randomness, tag."""
        expires = int((now + LIFETIME).timestamp()).to_bytes(8, "big")
        body = expires + randomness[:_RANDOM_BYTES]
        return (body + self._tag(body)).hex()

    def redeem(self, nonce: str, *, now: datetime) -> bool:
        """Tell whether the nonce is ours, fresh, and was not used before; it is used from now on."""
        try:
            octets = bytes.fromhex(nonce)
        except ValueError:
            return False
        body, tag = octets[:-_TAG_BYTES], octets[-_TAG_BYTES:]
        if len(octets) != 8 + _RANDOM_BYTES + _TAG_BYTES or not hmac.compare_digest(tag, self._tag(body)):
            return False
        expires = datetime.fromtimestamp(int.from_bytes(body[:8], "big"), tz=UTC)
        self._forget(now)
        canonical = octets.hex()
        if now >= expires or canonical in self._used or len(self._used) >= _MAX_USED:
            return False
        self._used[canonical] = expires
        return True

    def secret(self, nonce: str, about: bytes) -> bytes:
        """Return 32 bytes that belong to a nonce and to what it is about; only this process can tell them."""
        # Longer than any body that is tagged, so that no tag is ever such a secret.
        return hmac.digest(self._key, b"secret\0" + nonce.encode() + b"\0" + about, hashlib.sha256)

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)[:_TAG_BYTES]

    def _forget(self, now: datetime) -> None:
        """Drop what has expired; the oldest stand first, because all live equally long."""
        for nonce, expires in list(self._used.items()):
            if expires > now:
                break
            del self._used[nonce]
