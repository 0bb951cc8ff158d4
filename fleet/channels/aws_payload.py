"""What AWS clients send and get: the members of one object, in JSON or in CBOR.

Members that are not known are passed over, as at AWS; those that are known have their type and bounds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from device_agent.wire import cbor
from device_agent.wire.fields import MAX_BODY_BYTES, Fields, parse_object
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret

Payload: TypeAlias = Mapping[str, str | int | dict[str, str]]

LONGEST_TOKEN = 1024
LONGEST_PARAMETER = 1024


class Format(StrEnum):
    """The last level of a topic."""

    JSON = "json"
    CBOR = "cbor"

    @classmethod
    def of(cls, word: str) -> "Format":
        """Return the format of an answer; a word that is none is told so in JSON."""
        return cls.CBOR if word == cls.CBOR else cls.JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The bytes of a request."""

    format: Format
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """What RegisterThing holds."""

    token: Secret
    parameters: Mapping[str, str]


def read_create(asked: Asked) -> str:
    """Return the request for a certificate; nobody has looked into it yet. Raises `MalformedMessageError`."""
    return _members(asked).any_text("certificateSigningRequest", longest=MAX_BODY_BYTES)


def read_register(asked: Asked) -> Register:
    """Return token and parameters. Raises `MalformedMessageError`."""
    members = _members(asked)
    token = Secret(members.text("certificateOwnershipToken", longest=LONGEST_TOKEN))
    parameters = {}
    if "parameters" in members:
        parameters = members.text_members("parameters", longest=LONGEST_PARAMETER)
    return Register(token=token, parameters=parameters)


def encode(payload: Payload, form: Format) -> bytes:
    """Return the bytes of an answer."""
    if form is Format.JSON:
        return json.dumps(payload).encode()
    return cbor.encode({name: _item(value) for name, value in payload.items()})


def _item(value: str | int | dict[str, str]) -> cbor.Item:
    return dict(value.items()) if isinstance(value, dict) else value


def _members(asked: Asked) -> Fields:
    if asked.format is Format.JSON:
        return parse_object(asked.body)
    if len(asked.body) > MAX_BODY_BYTES:
        raise MalformedMessageError(f"body must not exceed {MAX_BODY_BYTES} bytes")
    found = cbor.decode(asked.body)
    if not isinstance(found, dict):
        raise MalformedMessageError("body must be a CBOR map")
    return Fields(found)
