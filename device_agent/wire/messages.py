"""Requests and replies as JSON bodies, version 1, the same over MQTT and HTTP.

Unknown members are ignored; unknown types and versions are refused. Certificates and CSRs stay PEM
text here: this module reads envelopes, never X.509.
"""

import json
from collections.abc import Collection

from device_agent.wire.fields import Fields, parse_object
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import (
    BrokerAddress,
    Challenge,
    Confirmed,
    Dead,
    DoneAck,
    HttpsAddress,
    Issued,
    Pending,
    Problem,
    Reply,
    ReportedState,
    Status,
    Time,
)
from device_agent.wire.requests import (
    MAX_ATTEMPT,
    Attest,
    Confirm,
    Done,
    Enroll,
    Proof,
    ProofKind,
    Renew,
    Request,
    StatusQuery,
    TimeQuery,
)

__all__ = [
    "MAX_ATTEMPT",
    "REPLY_TYPES",
    "REQUEST_TYPES",
    "VERSION",
    "Attest",
    "BrokerAddress",
    "Challenge",
    "Confirm",
    "Confirmed",
    "Dead",
    "Done",
    "DoneAck",
    "Enroll",
    "HttpsAddress",
    "Issued",
    "Pending",
    "Problem",
    "Proof",
    "ProofKind",
    "Renew",
    "Reply",
    "ReportedState",
    "Request",
    "Status",
    "StatusQuery",
    "Time",
    "TimeQuery",
    "UnsupportedTypeError",
    "UnsupportedVersionError",
    "encode",
    "id_of",
    "parse_reply",
    "parse_request",
]

VERSION = 1

_LONGEST_ID = 64


class UnsupportedVersionError(MalformedMessageError):
    """The body is of a version that this side does not speak."""


class UnsupportedTypeError(MalformedMessageError):
    """The body is of a type that this version does not have."""


REQUEST_TYPES: dict[str, type[Request]] = {
    kind.kind: kind for kind in (Attest, Enroll, Renew, Confirm, Done, StatusQuery, TimeQuery)
}
REPLY_TYPES: dict[str, type[Reply]] = {
    kind.kind: kind for kind in (Challenge, Issued, Confirmed, DoneAck, Dead, Status, Time, Pending, Problem)
}


def parse_request(body: bytes) -> Request:
    """Return what a device asks.

    Raises:
        UnsupportedVersionError, UnsupportedTypeError: another version or type than this contract has.
        MalformedMessageError: the body is none of its messages.
    """
    fields = parse_object(body)
    kind = _envelope(fields, known=REQUEST_TYPES.keys())
    return REQUEST_TYPES[kind].read(fields.text("id", longest=_LONGEST_ID), fields)


def parse_reply(body: bytes) -> Reply:
    """Return what the server answers; raises as `parse_request` does."""
    fields = parse_object(body)
    kind = _envelope(fields, known=REPLY_TYPES.keys())
    return REPLY_TYPES[kind].read(fields.text("id", longest=_LONGEST_ID), fields)


def encode(message: Request | Reply) -> bytes:
    """Return the JSON body of a message, UTF-8."""
    envelope = {"v": VERSION, "id": message.id, "type": message.kind}
    return json.dumps(envelope | message.members(), separators=(",", ":")).encode()


def id_of(body: bytes) -> str:
    """Return the id of a body that may be no message, for the problem that answers it; else `-`."""
    try:
        return parse_object(body).text("id", longest=_LONGEST_ID)
    except MalformedMessageError:
        return "-"


def _envelope(fields: Fields, *, known: Collection[str]) -> str:
    if fields.integer("v", lowest=0, highest=255) != VERSION:
        raise UnsupportedVersionError(f"v must be {VERSION}")
    kind = fields.text("type", longest=32)
    if kind not in known:
        raise UnsupportedTypeError("type is none that this version has")
    return kind
