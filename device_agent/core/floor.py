"""The floor of the time as text: the one line that a device keeps of it.

A line that is torn or changed is none: a wrong floor could shut a device out of all times for ever.
"""

import hashlib
import hmac
from datetime import datetime

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.problems import MalformedMessageError

MAX_FLOOR_BYTES = 256

_FORMAT = "fleet-device-clock 1"


def encode(floor: datetime) -> bytes:
    """Return the line: format, version, an RFC 3339 time, and the SHA-256 of what stands before."""
    text = f"{_FORMAT} {time_text(floor)}"
    return f"{text} {_digest(text)}\n".encode()


def decode(content: bytes) -> datetime:
    """Return the time of a line; raises `MalformedMessageError`."""
    text, _, digest = content.decode("ascii", "replace").removesuffix("\n").rpartition(" ")
    known = text.startswith(f"{_FORMAT} ")
    if not known or not hmac.compare_digest(digest.encode(), _digest(text).encode()):
        raise MalformedMessageError("the stored time is damaged")
    return Fields({"now": text.removeprefix(f"{_FORMAT} ")}).time("now")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
