"""What a gateway tells a device that has no connection of its own: the server's answers, as one CBOR map.

A certificate is no answer of this kind: it is written and installed as the objects of the factory link.
"""

from dataclasses import dataclass
from typing import TypeAlias

from device_agent.wire import cbor
from device_agent.wire.objects import DIGEST_BYTES
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.requests import MAX_ATTEMPT
from device_agent.wire.smp import Members

_CONFIRMED, _DEAD, _STATUS = 1, 2, 3
_SERIAL_BYTES = 16
_LAST_SECOND = 253402300799


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedAnswer:
    """The certificate of this serial (16 octets) is the current one."""

    serial: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadAnswer:
    """The server gave up this key (SHA-256 of its SubjectPublicKeyInfo), or will never certify it."""

    key_hash: bytes
    attempt_floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAnswer:
    """How a certificate stands: is it superseded, or has it expired; `renew_after` in seconds since 1970."""

    serial: bytes
    is_over: bool
    renew_after: int


CarriedAnswer: TypeAlias = ConfirmedAnswer | DeadAnswer | StatusAnswer


def encode_answer(answer: CarriedAnswer) -> bytes:
    """Return the octets that HEAR carries."""
    match answer:
        case ConfirmedAnswer(serial=serial):
            return cbor.encode({"k": _CONFIRMED, "sn": serial})
        case DeadAnswer(key_hash=key_hash, attempt_floor=floor):
            return cbor.encode({"k": _DEAD, "kh": key_hash, "fl": floor})
        case StatusAnswer(serial=serial, is_over=over, renew_after=renew_after):
            return cbor.encode({"k": _STATUS, "sn": serial, "su": int(over), "ra": renew_after})


def parse_answer(octets: bytes) -> CarriedAnswer:
    """Read what `encode_answer` wrote; raises `MalformedMessageError`."""
    found = cbor.decode(octets)
    if not isinstance(found, dict):
        raise MalformedMessageError("an answer must be a CBOR map")
    body = Members(found)
    match body.integer("k", lowest=_CONFIRMED, highest=_STATUS):
        case 1:
            return ConfirmedAnswer(serial=_serial(body))
        case 2:
            key_hash = body.octets("kh", lowest=DIGEST_BYTES, highest=DIGEST_BYTES)
            return DeadAnswer(key_hash=key_hash, attempt_floor=body.integer("fl", highest=MAX_ATTEMPT))
        case _:
            return StatusAnswer(
                serial=_serial(body),
                is_over=body.flag("su"),
                renew_after=body.integer("ra", highest=_LAST_SECOND),
            )


def _serial(body: Members) -> bytes:
    return body.octets("sn", lowest=_SERIAL_BYTES, highest=_SERIAL_BYTES)
