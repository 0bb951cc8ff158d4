"""What a station asks of its server beside certificates: units that others made, numbers, and decisions.

Each answer lets a computer whose ledger is empty go on where another one stopped.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from device_agent.wire.fields import Fields
from device_agent.wire.identity import parse_device_id, parse_sha256
from device_agent.wire.objects import ObjectHashes, parse_hardware_id
from device_agent.wire.problems import MalformedMessageError
from fleet.core.station_body import encoded, versioned
from fleet.model import CertificateState

_MOST = 200
_HIGHEST = 2**53 - 1
_LONGEST_PREFIX = 60
_GIVEN_LENGTH = 3 * 64


class Fate(StrEnum):
    """What becomes of a unit that leaves quarantine."""

    USE = "use"
    """It goes on as it is."""
    REWORK = "rework"
    """It is made anew, with another key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A decision about a unit, by its hardware id; `number` is what the station says back."""

    number: int
    hardware: str
    fate: Fate
    actor: str


def encode_recall(fingerprint: str) -> bytes:
    """Return the question after a certificate, by the SHA-256 of its DER in hex."""
    return encoded({"fingerprint": fingerprint})


def parse_recall(body: bytes) -> str:
    """Return which certificate is asked for. Raises `MalformedMessageError`."""
    return versioned(body).sha256("fingerprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallAnswer:
    """What the server said when it issued (the wire's `issued`), and whether the certificate is in use."""

    issued: bytes
    state: CertificateState
    given: str = ""
    """What the unit got with it, by the journal of the station that made it: see `given_text`."""

    def encode(self) -> bytes:
        """Return the body of the answer."""
        return encoded({"state": self.state.value, "issued": json.loads(self.issued), "given": self.given})


def parse_recalled(body: bytes) -> RecallAnswer:
    """Return the answer. Raises `MalformedMessageError`."""
    members = versioned(body)
    members.object("issued")
    return RecallAnswer(
        issued=json.dumps(json.loads(body)["issued"]).encode(),
        state=members.word("state", of=CertificateState),
        given=members.any_text("given", longest=_GIVEN_LENGTH),
    )


def given_text(hashes: ObjectHashes) -> str:
    """Return the three hashes that a unit signs in its proof, as journals tell them: 192 hex."""
    return (hashes.chain + hashes.anchors + hashes.configuration).hex()


def parse_given(text: str) -> ObjectHashes | None:
    """Return the hashes again; None where nobody told them. Raises `MalformedMessageError`."""
    if not text:
        return None
    parts = [parse_sha256(text[place : place + 64]) for place in range(0, _GIVEN_LENGTH, 64)]
    chain, anchors, configuration = (bytes.fromhex(part) for part in parts)
    return ObjectHashes(chain=chain, anchors=anchors, configuration=configuration)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumbersAsked:
    """Which prefix is asked for; `device_id` is an id of it that the station would give, or empty."""

    prefix: str
    device_id: str = ""

    def encode(self) -> bytes:
        """Return the body of the question."""
        wanted = {"device": self.device_id} if self.device_id else {}
        return encoded({"prefix": self.prefix, **wanted})


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The highest number of a prefix that some device has, 0 where none has, and of the id: has it a key."""

    last: int
    is_taken: bool = False

    def encode(self) -> bytes:
        """Return the body of the answer."""
        return encoded({"last": self.last, "taken": self.is_taken})


def parse_numbers_asked(body: bytes) -> NumbersAsked:
    """Return what is asked. Raises `MalformedMessageError`."""
    members = versioned(body)
    prefix = members.text("prefix", longest=_LONGEST_PREFIX)
    parse_device_id(f"{prefix}0001")
    device_id = parse_device_id(members.text("device", longest=64)) if "device" in members else ""
    return NumbersAsked(prefix=prefix, device_id=device_id)


def parse_numbers(body: bytes) -> Numbers:
    """Return the answer. Raises `MalformedMessageError`."""
    members = versioned(body)
    return Numbers(last=members.integer("last", lowest=0, highest=_HIGHEST), is_taken=members.flag("taken"))


def encode_taken(numbers: Sequence[int]) -> bytes:
    """Return which decisions a station has, and by that asks for those that it has not."""
    return encoded({"taken": [str(number) for number in numbers]})


def parse_taken(body: bytes) -> tuple[int, ...]:
    """Return which decisions a station has. Raises `MalformedMessageError`."""
    texts = versioned(body).texts("taken", longest=16)
    if len(texts) > _MOST or not all(text.isascii() and text.isdigit() for text in texts):
        raise MalformedMessageError(f"taken must be at most {_MOST} numbers")
    return tuple(int(text) for text in texts)


def encode_releases(releases: Sequence[Release]) -> bytes:
    """Return the decisions that a station was not told yet."""
    rows = [
        {"number": one.number, "hardware": one.hardware, "fate": one.fate.value, "actor": one.actor}
        for one in releases
    ]
    return encoded({"releases": rows})


def parse_releases(body: bytes) -> tuple[Release, ...]:
    """Return the decisions of an answer. Raises `MalformedMessageError`."""
    return tuple(_release(one) for one in versioned(body).objects("releases", most=_MOST))


def _release(members: Fields) -> Release:
    return Release(
        number=members.integer("number", lowest=1, highest=_HIGHEST),
        hardware=parse_hardware_id(members.text("hardware", longest=64)),
        fate=members.word("fate", of=Fate),
        actor=members.text("actor", longest=100),
    )
