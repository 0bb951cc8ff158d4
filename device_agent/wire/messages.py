"""Requests and replies as JSON bodies, version 1, the same over MQTT and HTTP.

Unknown members are ignored; unknown types and versions are refused. Certificates and CSRs stay PEM
text here: this module reads envelopes, never X.509.
"""

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self, TypeAlias, TypeVar

from device_agent.wire.fields import Fields, parse_object, time_text
from device_agent.wire.problems import RETRY_ADVICE, MalformedMessageError, ProblemCode, Retry
from device_agent.wire.secret import Secret

VERSION = 1
MAX_ATTEMPT = 2**31 - 1

_LONGEST_ID = 64
_LONGEST_DETAIL = 1024
_LONGEST_TOPIC = 256
_LONGEST_HOST = 253
_LONGEST_CODE = 128
_LONGEST_SIGNATURE = 1024


_Word = TypeVar("_Word", bound=StrEnum)


class UnsupportedVersionError(MalformedMessageError):
    """The body is of a version that this side does not speak."""


class UnsupportedTypeError(MalformedMessageError):
    """The body is of a type that this version does not have."""


class ProofKind(StrEnum):
    """What lets an unknown device ask."""

    CODE = "code"
    CLAIM = "claim"
    IDEVID = "idevid"
    TPM = "tpm"
    STATION = "station"


class ReportedState(StrEnum):
    """State of a certificate as a `status` reply names it."""

    ACTIVE = "active"
    ISSUED = "issued"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The proof of an `enroll`; `code` is there for the kind `code` alone."""

    kind: ProofKind
    code: Secret | None = None

    def members(self) -> dict[str, object]:
        """Return the JSON members, the code in clear: for the wire only."""
        found: dict[str, object] = {"kind": self.kind.value}
        if self.code is not None:
            found["code"] = self.code.reveal()
        return found

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the proof; raises `MalformedMessageError`."""
        kind = _member_of(ProofKind, fields, "kind")
        code = Secret(fields.text("code", longest=_LONGEST_CODE)) if kind is ProofKind.CODE else None
        return cls(kind=kind, code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enroll:
    """First certificate: a CSR, the trust anchors held (SHA-256 of their DER), and a proof."""

    kind: ClassVar[str] = "enroll"
    id: str
    device_id: str
    csr: str
    anchors: tuple[str, ...] = ()
    proof: Proof

    def members(self) -> dict[str, object]:
        return {
            "device_id": self.device_id,
            "csr": self.csr,
            "anchors": list(self.anchors),
            "proof": self.proof.members(),
        }

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        return cls(
            id=message_id,
            device_id=fields.device_id("device_id"),
            csr=fields.pem("csr"),
            anchors=fields.sha256s("anchors"),
            proof=Proof.read(fields.object("proof")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Next certificate; its parent is the certificate of the connection, never a claim in the body.

    `attempt` counts the keys made since the parent; a plain client sends none.
    """

    kind: ClassVar[str] = "renew"
    id: str
    csr: str
    attempt: int | None = None
    anchors: tuple[str, ...] = ()

    def members(self) -> dict[str, object]:
        found: dict[str, object] = {"csr": self.csr, "anchors": list(self.anchors)}
        if self.attempt is not None:
            found["attempt"] = self.attempt
        return found

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        attempt = fields.integer("attempt", lowest=1, highest=MAX_ATTEMPT) if "attempt" in fields else None
        return cls(id=message_id, csr=fields.pem("csr"), attempt=attempt, anchors=fields.sha256s("anchors"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """The certificate of this connection works: make it the current one."""

    kind: ClassVar[str] = "confirm"
    id: str

    def members(self) -> dict[str, object]:
        return {}

    @classmethod
    def read(cls, message_id: str, _fields: Fields) -> Self:
        return cls(id=message_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The certificate of this connection is the only one I hold."""

    kind: ClassVar[str] = "done"
    id: str

    def members(self) -> dict[str, object]:
        return {}

    @classmethod
    def read(cls, message_id: str, _fields: Fields) -> Self:
        return cls(id=message_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuery:
    """What is the certificate of this connection, or of this recovery proof, to you?"""

    kind: ClassVar[str] = "status"
    id: str

    def members(self) -> dict[str, object]:
        return {}

    @classmethod
    def read(cls, message_id: str, _fields: Fields) -> Self:
        return cls(id=message_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeQuery:
    """What time is it? Believed only with this nonce."""

    kind: ClassVar[str] = "time"
    id: str
    nonce: bytes

    def members(self) -> dict[str, object]:
        return {"nonce": self.nonce.hex()}

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        return cls(id=message_id, nonce=fields.hex("nonce", lowest=16, highest=32))


Request: TypeAlias = Enroll | Renew | Confirm | Done | StatusQuery | TimeQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where the new certificate is to be used: host, port, user name, and the topics it opens."""

    host: str
    port: int
    name: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    def members(self) -> dict[str, object]:
        topics = {"publish": list(self.publish), "subscribe": list(self.subscribe)}
        return {"host": self.host, "port": self.port, "name": self.name, "topics": topics}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        topics = fields.object("topics")
        return cls(
            host=fields.text("host", longest=_LONGEST_HOST),
            port=fields.integer("port", lowest=1, highest=65535),
            name=fields.text("name", longest=_LONGEST_ID + 33),
            publish=topics.texts("publish", longest=_LONGEST_TOPIC),
            subscribe=topics.texts("subscribe", longest=_LONGEST_TOPIC),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The answer to `enroll` and `renew`. It holds no secret: whoever reads it lacks the key.

    `chain` is leaf to issuing CA, without the leaf; `trust` the domain's trust anchors; `link` a
    certificate of the new anchor signed by one that the device says it holds.
    """

    kind: ClassVar[str] = "issued"
    id: str
    serial: str
    certificate: str
    chain: str
    trust: str
    link: str | None = None
    attempt_floor: int = 0
    renew_after: datetime
    broker: BrokerAddress

    def members(self) -> dict[str, object]:
        return {
            "serial": self.serial,
            "certificate": self.certificate,
            "chain": self.chain,
            "trust": self.trust,
            "link": self.link,
            "attempt_floor": self.attempt_floor,
            "renew_after": time_text(self.renew_after),
            "broker": self.broker.members(),
        }

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        return cls(
            id=message_id,
            serial=fields.serial("serial"),
            certificate=fields.pem("certificate"),
            chain=fields.pem("chain"),
            trust=fields.pem("trust"),
            link=fields.pem("link") if "link" in fields else None,
            attempt_floor=fields.integer("attempt_floor", lowest=0, highest=MAX_ATTEMPT),
            renew_after=fields.time("renew_after"),
            broker=BrokerAddress.read(fields.object("broker")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The certificate is current; its predecessor is superseded."""

    kind: ClassVar[str] = "confirmed"
    id: str
    serial: str

    def members(self) -> dict[str, object]:
        return {"serial": self.serial}

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        return cls(id=message_id, serial=fields.serial("serial"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneAck:
    """The server knows that the older slot was dropped."""

    kind: ClassVar[str] = "done-ack"
    id: str
    serial: str

    def members(self) -> dict[str, object]:
        return {"serial": self.serial}

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        return cls(id=message_id, serial=fields.serial("serial"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """No certificate for this key will work; start again above the floor with another one."""

    kind: ClassVar[str] = "dead"
    id: str
    key_hash: str
    attempt_floor: int

    def members(self) -> dict[str, object]:
        return {"key_hash": self.key_hash, "attempt_floor": self.attempt_floor}

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        floor = fields.integer("attempt_floor", lowest=0, highest=MAX_ATTEMPT)
        return cls(id=message_id, key_hash=fields.sha256("key_hash"), attempt_floor=floor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the certificate asked about is to the server."""

    kind: ClassVar[str] = "status"
    id: str
    serial: str
    state: ReportedState
    renew_after: datetime

    def members(self) -> dict[str, object]:
        renew_after = time_text(self.renew_after)
        return {"serial": self.serial, "state": self.state.value, "renew_after": renew_after}

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        return cls(
            id=message_id,
            serial=fields.serial("serial"),
            state=_member_of(ReportedState, fields, "state"),
            renew_after=fields.time("renew_after"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """The server's time, signed for the nonce that was asked with."""

    kind: ClassVar[str] = "time"
    id: str
    nonce: bytes
    now: datetime
    signature: bytes
    certificate: str

    def members(self) -> dict[str, object]:
        return {
            "nonce": self.nonce.hex(),
            "now": time_text(self.now),
            "signature": base64.b64encode(self.signature).decode(),
            "certificate": self.certificate,
        }

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        return cls(
            id=message_id,
            nonce=fields.hex("nonce", lowest=16, highest=32),
            now=fields.time("now"),
            signature=fields.base64("signature", longest=_LONGEST_SIGNATURE),
            certificate=fields.pem("certificate"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The request waits for an approval; `code` is shown on both sides, so that people can compare."""

    kind: ClassVar[str] = "pending"
    id: str
    retry_after_seconds: int
    code: str

    def members(self) -> dict[str, object]:
        return {"retry_after": self.retry_after_seconds, "code": self.code}

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        retry_after = fields.seconds("retry_after")
        code = fields.text("code", longest=_LONGEST_CODE)
        return cls(id=message_id, retry_after_seconds=retry_after, code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The request was not done. A device deletes nothing because of it."""

    kind: ClassVar[str] = "problem"
    id: str
    code: ProblemCode
    detail: str
    retry: Retry
    retry_after_seconds: int | None = None

    def members(self) -> dict[str, object]:
        found: dict[str, object] = {
            "code": self.code.value,
            "detail": self.detail,
            "retry": self.retry.value,
        }
        if self.retry_after_seconds is not None:
            found["retry_after"] = self.retry_after_seconds
        return found

    @classmethod
    def of(cls, message_id: str, code: ProblemCode, detail: str) -> Self:
        """Return the problem with the retry advice that the contract gives its code."""
        return cls(id=message_id, code=code, detail=detail[:_LONGEST_DETAIL], retry=RETRY_ADVICE[code])

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        return cls(
            id=message_id,
            code=_member_of(ProblemCode, fields, "code"),
            detail=fields.text("detail", longest=_LONGEST_DETAIL),
            retry=_member_of(Retry, fields, "retry"),
            retry_after_seconds=fields.seconds("retry_after") if "retry_after" in fields else None,
        )


Reply: TypeAlias = Issued | Confirmed | DoneAck | Dead | Status | Time | Pending | Problem

REQUEST_TYPES: dict[str, type[Request]] = {
    kind.kind: kind for kind in (Enroll, Renew, Confirm, Done, StatusQuery, TimeQuery)
}
REPLY_TYPES: dict[str, type[Reply]] = {
    kind.kind: kind for kind in (Issued, Confirmed, DoneAck, Dead, Status, Time, Pending, Problem)
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
    if fields.integer("v", lowest=0, highest=MAX_ATTEMPT) != VERSION:
        raise UnsupportedVersionError(f"v must be {VERSION}")
    kind = fields.text("type", longest=32)
    if kind not in known:
        raise UnsupportedTypeError("type is none that this version has")
    return kind


def _member_of(words: type[_Word], fields: Fields, name: str) -> _Word:
    try:
        return words(fields.text(name, longest=32))
    except ValueError as error:
        raise MalformedMessageError(f"{name} must be one of {', '.join(words)}") from error
