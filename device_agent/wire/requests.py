"""What a device asks. Each request reads its own members, and writes them back."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self, TypeAlias

from device_agent.wire.fields import Fields
from device_agent.wire.secret import Secret

MAX_ATTEMPT = 2**31 - 1

_LONGEST_CODE = 128


class ProofKind(StrEnum):
    """What lets an unknown device ask."""

    CODE = "code"
    CLAIM = "claim"
    IDEVID = "idevid"
    TPM = "tpm"
    STATION = "station"


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
        kind = fields.word("kind", of=ProofKind)
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
