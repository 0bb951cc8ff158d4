"""What a device answers on the factory link, one record a command, and its refusal of any."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self, TypeAlias

from device_agent.wire.cbor import Item
from device_agent.wire.factory import (
    DEFAULT_MESSAGE,
    MAX_CHUNK_BYTES,
    MAX_SIGNATURE_BYTES,
    NONCE_BYTES,
    SMALLEST_MESSAGE,
    Command,
    LinkState,
)
from device_agent.wire.identity import parse_device_id
from device_agent.wire.objects import (
    DIGEST_BYTES,
    MAX_CERTIFICATE_BYTES,
    MAX_NAME_LENGTH,
    MAX_OBJECT_BYTES,
    parse_hardware_id,
)
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.smp import Members

_LONGEST_MESSAGE = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloReply:
    """Who the device is.

    `device_id` is the id that it has or wants, or empty. `fingerprint` is that of the leaf installed last,
    or empty. `largest` is the longest SMP message that it takes, header included.
    """

    command: ClassVar[Command] = Command.HELLO
    nonce: bytes
    hardware_id: str
    device_id: str = ""
    model: str = ""
    state: LinkState
    fingerprint: bytes = b""
    largest: int = DEFAULT_MESSAGE

    def members(self) -> dict[str, Item]:
        return {
            "n": self.nonce,
            "hw": self.hardware_id,
            "id": self.device_id,
            "md": self.model,
            "st": int(self.state),
            "fp": self.fingerprint,
            "mx": self.largest,
        }

    @classmethod
    def read(cls, body: Members) -> Self:
        largest = body.integer("mx", highest=_LONGEST_MESSAGE) if "mx" in body else DEFAULT_MESSAGE
        if largest < SMALLEST_MESSAGE:
            raise MalformedMessageError(f"mx must be {SMALLEST_MESSAGE} or more")
        return cls(
            nonce=body.octets("n", lowest=NONCE_BYTES, highest=NONCE_BYTES),
            hardware_id=parse_hardware_id(body.text("hw", longest=MAX_NAME_LENGTH)),
            device_id=_device_id_or_none(body),
            model=body.text("md", longest=MAX_NAME_LENGTH) if "md" in body else "",
            state=body.one_of(LinkState, "st"),
            fingerprint=_fingerprint_or_none(body),
            largest=largest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestReply:
    """What vouches for the hardware: a certificate or COSE, and a signature over the nonce."""

    command: ClassVar[Command] = Command.ATTEST
    evidence: bytes
    signature: bytes

    def members(self) -> dict[str, Item]:
        return {"c": self.evidence, "sg": self.signature}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(
            evidence=body.octets("c", lowest=1, highest=MAX_CERTIFICATE_BYTES), signature=_signature(body)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentReply:
    """The CSR is ready: its length and SHA-256."""

    command: ClassVar[Command] = Command.IDENT
    length: int
    digest: bytes

    def members(self) -> dict[str, Item]:
        return {"l": self.length, "h": self.digest}

    @classmethod
    def read(cls, body: Members) -> Self:
        length = body.integer("l", lowest=1, highest=MAX_OBJECT_BYTES)
        return cls(length=length, digest=body.octets("h", lowest=DIGEST_BYTES, highest=DIGEST_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReply:
    """A piece of the object, as long as was asked or to its end."""

    command: ClassVar[Command] = Command.READ
    octets: bytes

    def members(self) -> dict[str, Item]:
        return {"d": self.octets}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(octets=body.octets("d", lowest=0, highest=MAX_CHUNK_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteReply:
    """How much of the object the device holds now."""

    command: ClassVar[Command] = Command.WRITE
    offset: int

    def members(self) -> dict[str, Item]:
        return {"off": self.offset}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(offset=body.integer("off", highest=MAX_OBJECT_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReply:
    """Installed, pending. `tofu` says that the device had no anchor of its own and believed this station."""

    command: ClassVar[Command] = Command.INSTALL
    fingerprint: bytes
    tofu: bool = False

    def members(self) -> dict[str, Item]:
        found: dict[str, Item] = {"fp": self.fingerprint}
        return found | ({"tofu": 1} if self.tofu else {})

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(fingerprint=_fingerprint(body), tofu=body.flag("tofu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveReply:
    """The signature over `proof_text`, ECDSA with SHA-256 in DER."""

    command: ClassVar[Command] = Command.PROVE
    signature: bytes

    def members(self) -> dict[str, Item]:
        return {"sg": self.signature}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(signature=_signature(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitReply:
    """Active. The same to a repeated COMMIT."""

    command: ClassVar[Command] = Command.COMMIT
    state: LinkState
    fingerprint: bytes

    def members(self) -> dict[str, Item]:
        return {"st": int(self.state), "fp": self.fingerprint}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(state=body.one_of(LinkState, "st"), fingerprint=_fingerprint(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortReply:
    """The session is forgotten."""

    command: ClassVar[Command] = Command.ABORT

    def members(self) -> dict[str, Item]:
        return {}

    @classmethod
    def read(cls, _body: Members) -> Self:
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReply:
    """How far the device is, within the session."""

    command: ClassVar[Command] = Command.STATUS
    state: LinkState

    def members(self) -> dict[str, Item]:
        return {"st": int(self.state)}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(state=body.one_of(LinkState, "st"))


class Asked(IntEnum):
    """What a device asks the server."""

    NOTHING = 0
    RENEW = 1
    CONFIRM = 2
    STATUS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AskReply:
    """What the device asks, proven by `signature` over `recovery_text`; NOTHING comes alone.

    `length` and `digest` are of the request, `certificate_length` and `fingerprint` of the certificate that
    it speaks for: both are read as objects.
    """

    command: ClassVar[Command] = Command.ASK
    kind: Asked
    length: int = 0
    digest: bytes = b""
    certificate_length: int = 0
    fingerprint: bytes = b""
    signature: bytes = b""

    def members(self) -> dict[str, Item]:
        if self.kind is Asked.NOTHING:
            return {"k": int(self.kind)}
        return {
            "k": int(self.kind),
            "l": self.length,
            "h": self.digest,
            "cl": self.certificate_length,
            "ch": self.fingerprint,
            "sg": self.signature,
        }

    @classmethod
    def read(cls, body: Members) -> Self:
        kind = body.one_of(Asked, "k")
        if kind is Asked.NOTHING:
            return cls(kind=kind)
        return cls(
            kind=kind,
            length=body.integer("l", lowest=1, highest=MAX_OBJECT_BYTES),
            digest=body.octets("h", lowest=DIGEST_BYTES, highest=DIGEST_BYTES),
            certificate_length=body.integer("cl", lowest=1, highest=MAX_CERTIFICATE_BYTES),
            fingerprint=body.octets("ch", lowest=DIGEST_BYTES, highest=DIGEST_BYTES),
            signature=_signature(body),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HearReply:
    """Heard, and done."""

    command: ClassVar[Command] = Command.HEAR
    state: LinkState

    def members(self) -> dict[str, Item]:
        return {"st": int(self.state)}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(state=body.one_of(LinkState, "st"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The device did not do it. `rc` is an `Rc`, or a number that only the device knows the meaning of."""

    rc: int


Reply: TypeAlias = (
    HelloReply
    | AttestReply
    | IdentReply
    | ReadReply
    | WriteReply
    | InstallReply
    | ProveReply
    | CommitReply
    | AbortReply
    | StatusReply
    | AskReply
    | HearReply
)

REPLIES: dict[Command, type[Reply]] = {
    kind.command: kind
    for kind in (
        HelloReply,
        AttestReply,
        IdentReply,
        ReadReply,
        WriteReply,
        InstallReply,
        ProveReply,
        CommitReply,
        AbortReply,
        StatusReply,
        AskReply,
        HearReply,
    )
}


def _signature(body: Members) -> bytes:
    return body.octets("sg", lowest=1, highest=MAX_SIGNATURE_BYTES)


def _fingerprint(body: Members) -> bytes:
    return body.octets("fp", lowest=DIGEST_BYTES, highest=DIGEST_BYTES)


def _fingerprint_or_none(body: Members) -> bytes:
    return _fingerprint(body) if "fp" in body and body.octets("fp", lowest=0, highest=DIGEST_BYTES) else b""


def _device_id_or_none(body: Members) -> str:
    text = body.text("id", longest=MAX_NAME_LENGTH) if "id" in body else ""
    return parse_device_id(text) if text else ""
