"""Who an EST client says it is over HTTP basic (RFC 7617): the device id, and its one-time code.

What it says is a claim; whether the code is right, admission finds out.
"""

import base64
import binascii
from dataclasses import dataclass

from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret

_LONGEST = 512
_LONGEST_CODE = 128


class UnfitLoginError(ValueError):
    """An Authorization header that names nobody; its text never repeats it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """User name and password of HTTP basic."""

    device_id: str
    code: Secret


def read_login(authorization: Secret) -> Login:
    """Read the value of an Authorization header.

    Raises:
        UnfitLoginError: it is of another scheme, or has no device id and code.
    """
    scheme, _, encoded = authorization.reveal()[:_LONGEST].partition(" ")
    if scheme.lower() != "basic":
        raise UnfitLoginError("HTTP basic is the only scheme here (RFC 7617)")
    try:
        words = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise UnfitLoginError("the credentials must be base64 of <device id>:<code> in UTF-8") from error
    # RFC 7617 2 ends the user name at the first colon. A device id may hold colons, a code never does.
    device_id, _, code = words.rpartition(":")
    if not 1 <= len(code) <= _LONGEST_CODE or not code.isprintable():
        raise UnfitLoginError("the password must be a one-time code")
    try:
        return Login(device_id=parse_device_id(device_id), code=Secret(code))
    except MalformedMessageError as error:
        raise UnfitLoginError(f"the user name must be a device id: {error}") from error
