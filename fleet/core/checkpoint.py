"""Tree heads as checkpoints, and the cosignatures of those who witness that a trail only grows.

The formats are those of C2SP, the Community Cryptography Specification Project: signed-note, tlog-checkpoint,
tlog-cosignature (v1) and the bodies of tlog-witness. What witnesses transparency logs can so witness a fleet.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device_agent.wire.problems import MalformedMessageError

LOG_KEY = 0x01
"""Ed25519, of a log."""
WITNESS_KEY = 0x04
"""Ed25519, of a witness: it signs the time too."""
MAX_ANSWER_BYTES = 4096

_ID_BYTES = 4
_KEY_BYTES = 32
_TIME_BYTES = 8
_SIGNATURE_BYTES = 64
_LATEST = 2**40
_NAME = re.compile(r"[!-*,-~]{1,128}", re.ASCII)  # no space and no plus (signed-note)
_DASH = "\u2014 "
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,17})\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteKey:
    """A public key with the name of its holder, as signed notes have it."""

    name: str
    kind: int
    public: bytes
    """Ed25519 (RFC 8032 5.1.5)."""

    @property
    def key_id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:_ID_BYTES]

    def text(self) -> str:
        """Return the key as one word: name, key id and key."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.kind]) + self.public)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree of `size` entries with its root; `origin` names the log, and never changes."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return what is signed."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A witness's line under a checkpoint, and the time that it signed."""

    line: str
    at: datetime


def parse_key(text: str, *, kind: int) -> NoteKey:
    """Read a key as one word.

    Raises:
        MalformedMessageError: it is none, is of another kind, or its id is not its own.
    """
    name, _, rest = text.partition("+")
    shown, _, encoded = rest.partition("+")
    material = _octets(encoded)
    if not _NAME.fullmatch(name) or len(material) != 1 + _KEY_BYTES:
        raise MalformedMessageError("it is no key of a signed note: NAME+ID+KEY")
    if material[0] != kind:
        raise MalformedMessageError(f"it is a key of kind {material[0]}, and {kind} is wanted")
    key = NoteKey(name=name, kind=kind, public=material[1:])
    if key.key_id.hex() != shown:
        raise MalformedMessageError("its id does not fit the key: part of it was lost or mistyped")
    return key


def signed_note(checkpoint: Checkpoint, lines: Sequence[str]) -> str:
    """Return a checkpoint with signatures below it."""
    return "\n".join((checkpoint.text(), *lines, ""))


def signature_line(key: NoteKey, signature: bytes) -> str:
    """Return the line of a signature, without its end."""
    return f"{_DASH}{key.name} {_base64(key.key_id + signature)}"


def submission(checkpoint_note: str, *, earlier: int, consistency: Sequence[bytes]) -> bytes:
    """Return what a witness is sent: the size that it knows, the proof from there, and the checkpoint."""
    steps = "".join(f"{_base64(step)}\n" for step in consistency)
    return f"old {earlier}\n{steps}\n{checkpoint_note}".encode()


def parse_cosignature(answer: bytes, *, checkpoint: Checkpoint, key: NoteKey) -> Cosignature:
    """Find the line of a witness in its answer, and check it; lines of others are left alone.

    Raises:
        MalformedMessageError: there is none, or it does not fit this checkpoint.
    """
    if len(answer) > MAX_ANSWER_BYTES:
        raise MalformedMessageError(f"the answer is longer than {MAX_ANSWER_BYTES} octets")
    for line in answer.decode("utf-8", "replace").split("\n"):
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        if line.startswith(_DASH) and name == key.name and _octets(encoded)[:_ID_BYTES] == key.key_id:
            return _checked(line, _octets(encoded)[_ID_BYTES:], checkpoint, key)
    raise MalformedMessageError(f"the answer has no cosignature of {key.name}")


def parse_known_size(answer: bytes) -> int:
    """Read how many entries a witness knows, which it says where it was asked from another size.

    Raises:
        MalformedMessageError: it is no number.
    """
    found = _SIZE.fullmatch(answer[:MAX_ANSWER_BYTES])
    if found is None:
        raise MalformedMessageError("the witness does not say how many entries it knows")
    return int(found[1])


def _checked(line: str, signed: bytes, checkpoint: Checkpoint, key: NoteKey) -> Cosignature:
    moment, signature = int.from_bytes(signed[:_TIME_BYTES], "big"), signed[_TIME_BYTES:]
    if len(signature) != _SIGNATURE_BYTES or moment > _LATEST:
        raise MalformedMessageError("the cosignature is cut off")
    message = f"cosignature/v1\ntime {moment}\n{checkpoint.text()}".encode()
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise MalformedMessageError(f"{key.name} did not sign this checkpoint") from error
    return Cosignature(line=line, at=datetime.fromtimestamp(moment, tz=UTC))


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _octets(text: str) -> bytes:
    """Return what base64 holds; nothing where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
