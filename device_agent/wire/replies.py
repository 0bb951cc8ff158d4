"""What the server answers. No reply holds a secret: whoever reads one lacks the key."""

import base64
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self, TypeAlias

from device_agent.wire.evidence import nonce_of
from device_agent.wire.fields import Fields, time_text
from device_agent.wire.problems import RETRY_ADVICE, ProblemCode, Retry
from device_agent.wire.requests import MAX_ATTEMPT
from device_agent.wire.trust import TrustBundle, bundle_members, read_bundles

_LONGEST_NAME = 97
_LONGEST_DETAIL = 1024
_LONGEST_TOPIC = 256
_LONGEST_HOST = 253
_LONGEST_CODE = 128
_LONGEST_SIGNATURE = 1024
_LONGEST_LABEL = 32
_LONGEST_BLOB = 1024


class ReportedState(StrEnum):
    """State of a certificate as a `status` reply names it."""

    ACTIVE = "active"
    ISSUED = "issued"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUSPENDED = "suspended"


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
            name=fields.text("name", longest=_LONGEST_NAME),
            publish=topics.texts("publish", longest=_LONGEST_TOPIC),
            subscribe=topics.texts("subscribe", longest=_LONGEST_TOPIC),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsAddress:
    """Where a device asks without a certificate that works: the recovery listener."""

    host: str
    port: int

    def members(self) -> dict[str, object]:
        return {"host": self.host, "port": self.port}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        port = fields.integer("port", lowest=1, highest=65535)
        return cls(host=fields.text("host", longest=_LONGEST_HOST), port=port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The answer to `enroll` and `renew`. It holds no secret: whoever reads it lacks the key.

    `chain` is leaf to issuing CA, without the leaf; `trust` the domain's trust anchors; `link` the
    certificates, one after another, by which an anchor that the device says it holds vouches for the new
    one; `recovery` the way back when the certificate no longer works, where the server has one; `bundles`
    the trust bundles in force, of the domain and of the servers' realm, where there are any.
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
    recovery: HttpsAddress | None = None
    bundles: tuple[TrustBundle, ...] = ()

    def members(self) -> dict[str, object]:
        found: dict[str, object] = {
            "serial": self.serial,
            "certificate": self.certificate,
            "chain": self.chain,
            "trust": self.trust,
            "link": self.link,
            "attempt_floor": self.attempt_floor,
            "renew_after": time_text(self.renew_after),
            "broker": self.broker.members(),
        }
        if self.recovery is not None:
            found["recovery"] = self.recovery.members()
        if self.bundles:
            found["bundles"] = bundle_members(self.bundles)
        return found

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
            recovery=HttpsAddress.read(fields.object("recovery")) if "recovery" in fields else None,
            bundles=read_bundles(fields, "bundles"),
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
            state=fields.word("state", of=ReportedState),
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
class Challenge:
    """What a fresh proof must answer, and what its text names: the fleet and the domain that ask.

    `credential` and `secret` are there for a TPM: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, which
    TPM2_ActivateCredential opens in the very TPM that was named, and in no other.
    """

    kind: ClassVar[str] = "challenge"
    id: str
    nonce: str
    fleet: str
    domain: str
    expires_in_seconds: int
    credential: bytes | None = None
    secret: bytes | None = None

    def members(self) -> dict[str, object]:
        found: dict[str, object] = {
            "nonce": self.nonce,
            "fleet": self.fleet,
            "domain": self.domain,
            "expires_in": self.expires_in_seconds,
        }
        if self.credential is not None and self.secret is not None:
            found["credential"] = base64.b64encode(self.credential).decode()
            found["secret"] = base64.b64encode(self.secret).decode()
        return found

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        has_blob = "credential" in fields
        return cls(
            id=message_id,
            nonce=nonce_of(fields),
            fleet=fields.text("fleet", longest=_LONGEST_LABEL),
            domain=fields.text("domain", longest=_LONGEST_LABEL),
            expires_in_seconds=fields.seconds("expires_in"),
            credential=fields.base64("credential", longest=_LONGEST_BLOB) if has_blob else None,
            secret=fields.base64("secret", longest=_LONGEST_BLOB) if has_blob else None,
        )


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
            code=fields.word("code", of=ProblemCode),
            detail=fields.text("detail", longest=_LONGEST_DETAIL),
            retry=fields.word("retry", of=Retry),
            retry_after_seconds=fields.seconds("retry_after") if "retry_after" in fields else None,
        )


Reply: TypeAlias = Challenge | Issued | Confirmed | DoneAck | Dead | Status | Time | Pending | Problem
