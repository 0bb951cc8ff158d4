"""Bodies that a station and its server exchange: JSON objects of one version, read strictly."""

import json
from collections.abc import Mapping

from device_agent.wire.fields import Fields, parse_object
from device_agent.wire.problems import MalformedMessageError

_VERSION = 1


def versioned(body: bytes) -> Fields:
    """Return the members of a body. Raises `MalformedMessageError`."""
    members = parse_object(body)
    if members.integer("v", lowest=0, highest=255) != _VERSION:
        raise MalformedMessageError("this version is not known")
    return members


def encoded(members: Mapping[str, object]) -> bytes:
    """Return members as a body, with its version."""
    return json.dumps({"v": _VERSION, **members}, separators=(",", ":")).encode()
