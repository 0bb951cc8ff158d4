"""What a device asks. Each request reads its own members, and writes them back."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Self, TypeAlias

from device_agent.wire.evidence import IdevidEvidence, PivEvidence, TpmEvidence, TpmIdentity
from device_agent.wire.fields import Fields
from device_agent.wire.secret import Secret
from device_agent.wire.trust import TrustVersions, read_versions

MAX_ATTEMPT = 2**31 - 1

_LONGEST_CODE = 128


class ProofKind(StrEnum):
    """What lets an unknown device ask."""

    CODE = "code"
    CLAIM = "claim"
    IDEVID = "idevid"
    TPM = "tpm"
    PIV = "piv"
    """A PIV token that attests the key of the request."""
    STATION = "station"
    MANIFEST = "manifest"
    """The key of the request itself: its maker has listed it."""


Evidence: TypeAlias = IdevidEvidence | TpmEvidence | PivEvidence

_EVIDENCE: Mapping[ProofKind, type[Evidence]] = MappingProxyType(
    {ProofKind.IDEVID: IdevidEvidence, ProofKind.TPM: TpmEvidence, ProofKind.PIV: PivEvidence}
)
CHALLENGED = frozenset(_EVIDENCE) - {ProofKind.PIV}
"""The kinds whose evidence answers a challenge: it is asked for by `attest`."""
_NAMED_BY_CODE = frozenset({ProofKind.TPM, ProofKind.PIV, ProofKind.STATION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The proof of an `enroll`.

    `code` is there for the kind `code`, and may stand beside `tpm` and `piv` to say which device that is in,
    and beside `station` for a unit that comes back to one.
    `evidence` is there for them and `idevid`, but where TLS itself has shown the maker's certificate.
    """

    kind: ProofKind
    code: Secret | None = None
    evidence: Evidence | None = None

    def members(self) -> dict[str, object]:
        """Return the JSON members, the code in clear: for the wire only."""
        found: dict[str, object] = {"kind": self.kind.value}
        if self.code is not None:
            found["code"] = self.code.reveal()
        return found if self.evidence is None else found | self.evidence.members()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the proof; raises `MalformedMessageError`."""
        kind = fields.word("kind", of=ProofKind)
        has_code = kind is ProofKind.CODE or (kind in _NAMED_BY_CODE and "code" in fields)
        code = Secret(fields.text("code", longest=_LONGEST_CODE)) if has_code else None
        shape = _EVIDENCE.get(kind)
        shown = "certificate" if kind is ProofKind.PIV else "nonce"
        evidence = shape.read(fields) if shape is not None and shown in fields else None
        return cls(kind=kind, code=code, evidence=evidence)


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
class Attest:
    """What am I to prove? Asked before an `enroll` whose proof has to be fresh.

    `key_hash` is the SHA-256 of the SubjectPublicKeyInfo that the `enroll` will ask a certificate for;
    `tpm` is there for the kind `tpm` alone.
    """

    kind: ClassVar[str] = "attest"
    id: str
    device_id: str
    key_hash: str
    proof: ProofKind
    tpm: TpmIdentity | None = None

    def members(self) -> dict[str, object]:
        found: dict[str, object] = {
            "device_id": self.device_id,
            "key_hash": self.key_hash,
            "proof": self.proof.value,
        }
        return found if self.tpm is None else found | {"tpm": self.tpm.members()}

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        proof = fields.word("proof", of=ProofKind)
        return cls(
            id=message_id,
            device_id=fields.device_id("device_id"),
            key_hash=fields.sha256("key_hash"),
            proof=proof,
            tpm=TpmIdentity.read(fields.object("tpm")) if proof is ProofKind.TPM else None,
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
    trust: TrustVersions = ()

    def members(self) -> dict[str, object]:
        found: dict[str, object] = {"csr": self.csr, "anchors": list(self.anchors)}
        if self.trust:
            found["trust"] = dict(self.trust)
        if self.attempt is not None:
            found["attempt"] = self.attempt
        return found

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        attempt = fields.integer("attempt", lowest=1, highest=MAX_ATTEMPT) if "attempt" in fields else None
        return cls(
            id=message_id,
            csr=fields.pem("csr"),
            attempt=attempt,
            anchors=fields.sha256s("anchors"),
            trust=read_versions(fields, "trust"),
        )


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
    """The certificate of this connection is the only one I hold; and this is whom I trust."""

    kind: ClassVar[str] = "done"
    id: str
    anchors: tuple[str, ...] = ()
    trust: TrustVersions = ()

    def members(self) -> dict[str, object]:
        found: dict[str, object] = {}
        if self.anchors:
            found["anchors"] = list(self.anchors)
        if self.trust:
            found["trust"] = dict(self.trust)
        return found

    @classmethod
    def read(cls, message_id: str, fields: Fields) -> Self:
        return cls(id=message_id, anchors=fields.sha256s("anchors"), trust=read_versions(fields, "trust"))


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


Request: TypeAlias = Attest | Enroll | Renew | Confirm | Done | StatusQuery | TimeQuery
