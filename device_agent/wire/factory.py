"""Words of the factory link: its commands, refusals and states, its bounds, and the texts both ends sign.

Requests stand in `factory_requests`, replies in `factory_replies`, the envelope of both in `factory_calls`.
"""

import hashlib
from enum import IntEnum

from device_agent.wire.objects import ObjectHashes

SESSION_BYTES = 8
NONCE_BYTES = 16
MAX_SEQUENCE = 2**32 - 1
MAX_CHUNK_BYTES = 4096
MAX_SIGNATURE_BYTES = 256
SERVER_NONCE_BYTES = 32
MAX_ANSWER_BYTES = 256
"""Longest answer of the server that HEAR carries."""
MAX_STATION_CHAIN = 4

SMALLEST_MESSAGE = 128
DEFAULT_MESSAGE = 256
"""Longest message for a device that does not say what it takes: the default of Zephyr's UART transport."""

_PROOF_DOMAIN = b"FFL1 proof\x00"
_STATION_DOMAIN = b"FFL1 station\x00"
_ANSWER_DOMAIN = b"FFL1 answer\x00"


class Command(IntEnum):
    """Commands of the factory group."""

    HELLO = 0
    ATTEST = 1
    IDENT = 2
    READ = 3
    WRITE = 4
    INSTALL = 5
    PROVE = 6
    COMMIT = 7
    ABORT = 8
    STATUS = 9
    ASK = 10
    """Of devices that are heard through a gateway, as is HEAR; others answer both with rc 8."""
    HEAR = 11


class Rc(IntEnum):
    """Why a device did not do what it was asked; 0 stands for done."""

    OFFSET = 1
    STATE = 2
    HASH = 3
    KEY_MISMATCH = 4
    SESSION = 5
    UNAUTHORISED = 6
    BUSY = 7
    UNSUPPORTED = 8


class LinkState(IntEnum):
    """How far a device is; it survives a power cut."""

    FRESH = 0
    """No key."""
    KEYED = 1
    """A key waits for its certificate."""
    PENDING = 2
    """A certificate is installed, the slot that was active before still is."""
    ACTIVE = 3


def proof_text(
    session: bytes, *, station_nonce: bytes, device_nonce: bytes, hashes: ObjectHashes, fingerprint: bytes
) -> bytes:
    """Return what PROVE signs: possession of the key, bound to this session and to all that was installed."""
    objects = hashes.chain + hashes.anchors + hashes.configuration
    return _PROOF_DOMAIN + session + station_nonce + device_nonce + objects + fingerprint


def station_text(session: bytes, *, device_nonce: bytes, hashes: ObjectHashes) -> bytes:
    """Return what the station signs with INSTALL, so that the device knows whom it obeys."""
    objects = hashes.chain + hashes.anchors + hashes.configuration
    return _STATION_DOMAIN + session + device_nonce + objects


def answer_text(session: bytes, *, device_nonce: bytes, answer: bytes) -> bytes:
    """Return what the station of a gateway signs with HEAR: the server said this, to this device."""
    return _ANSWER_DOMAIN + session + device_nonce + hashlib.sha256(answer).digest()
