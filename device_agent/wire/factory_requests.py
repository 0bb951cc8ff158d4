"""What a station asks on the factory link, one record a command."""

from dataclasses import dataclass
from typing import ClassVar, Self, TypeAlias

from device_agent.wire.cbor import Item
from device_agent.wire.factory import (
    MAX_ANSWER_BYTES,
    MAX_CHUNK_BYTES,
    MAX_SIGNATURE_BYTES,
    MAX_STATION_CHAIN,
    NONCE_BYTES,
    SERVER_NONCE_BYTES,
    Command,
)
from device_agent.wire.objects import (
    DIGEST_BYTES,
    MAX_CERTIFICATE_BYTES,
    MAX_OBJECT_BYTES,
    ObjectHashes,
    ObjectId,
)
from device_agent.wire.smp import Members, Op

MAX_TIME = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who are you? Opens the session; `n` is the station's nonce."""

    command: ClassVar[Command] = Command.HELLO
    nonce: bytes

    def members(self) -> dict[str, Item]:
        return {"n": self.nonce}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(nonce=_nonce(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """Prove what hardware you are, for this nonce."""

    command: ClassVar[Command] = Command.ATTEST
    nonce: bytes

    def members(self) -> dict[str, Item]:
        return {"n": self.nonce}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(nonce=_nonce(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ident:
    """You are `device_id`: make a key, or keep the one made for this id, and a CSR."""

    command: ClassVar[Command] = Command.IDENT
    device_id: str

    def members(self) -> dict[str, Item]:
        return {"id": self.device_id}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(device_id=body.device_id("id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Give me a piece of an object: CSR or attestation."""

    command: ClassVar[Command] = Command.READ
    object_id: int
    offset: int
    length: int

    def members(self) -> dict[str, Item]:
        return {"o": self.object_id, "off": self.offset, "l": self.length}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(
            object_id=body.integer("o", highest=0xFF),
            offset=body.integer("off", highest=MAX_OBJECT_BYTES),
            length=body.integer("l", lowest=1, highest=MAX_CHUNK_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Take a piece of an object. What stood at and after `offset` is forgotten."""

    command: ClassVar[Command] = Command.WRITE
    object_id: ObjectId
    offset: int
    octets: bytes

    def members(self) -> dict[str, Item]:
        return {"o": int(self.object_id), "off": self.offset, "d": self.octets}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(
            object_id=body.one_of(ObjectId, "o"),
            offset=body.integer("off", highest=MAX_OBJECT_BYTES),
            octets=body.octets("d", lowest=0, highest=MAX_CHUNK_BYTES),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """Put the written objects into the pending slot, on the word of this station.

    `signature` is over `station_text`. `station_chain` is the station's certificate and its issuing CA;
    empty where it was written as an object, because one message would be too long for the line.
    """

    command: ClassVar[Command] = Command.INSTALL
    hashes: ObjectHashes
    signature: bytes = b""
    station_chain: tuple[bytes, ...] = ()

    def members(self) -> dict[str, Item]:
        found: dict[str, Item] = {
            "h1": self.hashes.chain,
            "h2": self.hashes.anchors,
            "h3": self.hashes.configuration,
        }
        if self.signature:
            found["sg"] = self.signature
        if self.station_chain:
            found["sc"] = list(self.station_chain)
        return found

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(
            hashes=ObjectHashes(
                chain=_digest(body, "h1"), anchors=_digest(body, "h2"), configuration=_digest(body, "h3")
            ),
            signature=body.octets("sg", lowest=1, highest=MAX_SIGNATURE_BYTES) if "sg" in body else b"",
            station_chain=_station_chain(body) if "sc" in body else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """Sign `proof_text` with the installed key; `n` is the station's nonce."""

    command: ClassVar[Command] = Command.PROVE
    nonce: bytes

    def members(self) -> dict[str, Item]:
        return {"n": self.nonce}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(nonce=_nonce(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Make the pending slot the active one, if its leaf has this fingerprint."""

    command: ClassVar[Command] = Command.COMMIT
    fingerprint: bytes

    def members(self) -> dict[str, Item]:
        return {"fp": self.fingerprint}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(fingerprint=_digest(body, "fp"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Forget the session and what was written in it. Slots stay as they are."""

    command: ClassVar[Command] = Command.ABORT

    def members(self) -> dict[str, Item]:
        return {}

    @classmethod
    def read(cls, _body: Members) -> Self:
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Are you still the one I spoke with, and how far?"""

    command: ClassVar[Command] = Command.STATUS

    def members(self) -> dict[str, Item]:
        return {}

    @classmethod
    def read(cls, _body: Members) -> Self:
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What do you ask the server? `nonce` is the server's; `time`, in seconds since 1970, is no more than
    a hint when to renew: the device believes nothing because of it."""

    command: ClassVar[Command] = Command.ASK
    nonce: bytes
    time: int

    def members(self) -> dict[str, Item]:
        return {"n": self.nonce, "t": self.time}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(
            nonce=body.octets("n", lowest=SERVER_NONCE_BYTES, highest=SERVER_NONCE_BYTES),
            time=body.integer("t", highest=MAX_TIME),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hear:
    """This is what the server answered, see `wire.carried`; `signature` is over `answer_text`."""

    command: ClassVar[Command] = Command.HEAR
    answer: bytes
    signature: bytes
    station_chain: tuple[bytes, ...]

    def members(self) -> dict[str, Item]:
        return {"a": self.answer, "sg": self.signature, "sc": list(self.station_chain)}

    @classmethod
    def read(cls, body: Members) -> Self:
        return cls(
            answer=body.octets("a", lowest=1, highest=MAX_ANSWER_BYTES),
            signature=body.octets("sg", lowest=1, highest=MAX_SIGNATURE_BYTES),
            station_chain=_station_chain(body),
        )


Request: TypeAlias = (
    Hello | Attest | Ident | Read | Write | Install | Prove | Commit | Abort | Status | Ask | Hear
)

REQUESTS: dict[Command, type[Request]] = {
    kind.command: kind
    for kind in (Hello, Attest, Ident, Read, Write, Install, Prove, Commit, Abort, Status, Ask, Hear)
}
OPS: dict[Command, Op] = dict.fromkeys(Command, Op.WRITE) | {
    Command.HELLO: Op.READ,
    Command.READ: Op.READ,
    Command.STATUS: Op.READ,
}


def _nonce(body: Members) -> bytes:
    return body.octets("n", lowest=NONCE_BYTES, highest=NONCE_BYTES)


def _digest(body: Members, name: str) -> bytes:
    return body.octets(name, lowest=DIGEST_BYTES, highest=DIGEST_BYTES)


def _station_chain(body: Members) -> tuple[bytes, ...]:
    return body.all_octets("sc", most=MAX_STATION_CHAIN, longest=MAX_CERTIFICATE_BYTES)
