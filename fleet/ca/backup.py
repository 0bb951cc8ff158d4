"""The file format of a backup: a header in clear, sealed chunks, and a signature over all of it.

A cut, a flipped bit, a chunk that is missing, doubled or moved are all found. The key is nowhere in the file.
The format is described in docs/reference/backup-format.md; it never changes under its first line.
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from device_agent.wire.fields import Fields, parse_object, time_text
from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.ca.shares import KEY_BYTES, MOST_SHARES, Quorum
from fleet.errors import BadInputError

MAGIC = b"fleet-backup-v1\n"
CHUNK = 64 * 1024
"""Octets in clear of every chunk but the last, which may be shorter."""
ID_BYTES = 8
SALT_BYTES = 16

_LENGTH = 4
_TAG = 16
_LONGEST_HEADER = 16 * 1024
_LONGEST_SIGNATURE = 1024
_COUNTER = 11
_LAST = b"\1"
_MORE = b"\0"
_END = bytes(_LENGTH)
_DAMAGED = "take another copy of the backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What anybody may know of a backup."""

    fleet: str
    backup_id: str
    """16 hex, by which its shares and its audit entry are found."""
    made_at: datetime
    quorum: Quorum
    share_set: int
    salt: bytes
    audit_size: int
    """How many entries the audit trail in it has."""
    audit_root: bytes
    audit_key_pem: str
    """Public half of the key that signs the audit trail, and this file."""

    def encode(self) -> bytes:
        """Return the header as it stands in the file."""
        members = {
            "fleet": self.fleet,
            "backup": self.backup_id,
            "made_at": time_text(self.made_at),
            "shares_needed": self.quorum.needed,
            "shares": self.quorum.count,
            "share_set": self.share_set,
            "salt": self.salt.hex(),
            "audit_size": self.audit_size,
            "audit_root": self.audit_root.hex(),
            "audit_key": self.audit_key_pem,
        }
        return json.dumps(members, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What can be known of a backup without its key."""

    header: Header
    size: int
    digest: str
    """SHA-256 of all that is signed, hex."""
    signature: bytes

    def message(self) -> bytes:
        """Return the bytes that are signed: another first line than an audit head's."""
        return signed_message(self.digest)


def signed_message(digest: str) -> bytes:
    """Return what is signed of a file with this SHA-256, hex."""
    return MAGIC + digest.encode() + b"\n"


class _OneWay:
    """A stream that goes one way, as `tarfile` takes it: what it cannot do says so."""

    def read(self, _size: int, /) -> bytes:
        raise io.UnsupportedOperation("read")

    def write(self, _data: bytes, /) -> int:
        raise io.UnsupportedOperation("write")

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")

    def seek(self, _position: int, /) -> int:
        raise io.UnsupportedOperation("seek")

    def close(self) -> None:
        """Do nothing: the file beneath belongs to whoever opened it."""


class Sealer(_OneWay):
    """Writes a backup: what is written to it comes out sealed, chunk by chunk."""

    def __init__(self, file: BinaryIO, header: Header, *, key: bytes) -> None:
        encoded = header.encode()
        self._file = file
        self._aead = _aead(key, encoded, header.salt)
        self._digest = hashlib.sha256()
        self._pending = bytearray()
        self._count = 0
        self._put(MAGIC + len(encoded).to_bytes(_LENGTH, "big") + encoded)

    def write(self, data: bytes, /) -> int:
        """Take the next octets."""
        self._pending += data
        while len(self._pending) > CHUNK:
            self._seal(bytes(self._pending[:CHUNK]), _MORE)
            del self._pending[:CHUNK]
        return len(data)

    def finish(self, sign: Callable[[bytes], bytes]) -> str:
        """Seal what is left, sign everything, return the SHA-256 of what was signed, hex."""
        self._seal(bytes(self._pending), _LAST)
        self._put(_END)
        digest = self._digest.hexdigest()
        signature = sign(signed_message(digest))
        self._file.write(len(signature).to_bytes(_LENGTH, "big") + signature)
        return digest

    def _seal(self, clear: bytes, last: bytes) -> None:
        sealed = self._aead.encrypt(_nonce(self._count, last), clear, None)
        self._count += 1
        self._put(len(sealed).to_bytes(_LENGTH, "big") + sealed)

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


class Opener(_OneWay):
    """Reads a backup with its key, as a file in clear; what comes out was proven to be what went in.

    Every method raises `BadInputError` where the file was changed, cut, or sealed with another key.
    """

    def __init__(self, file: BinaryIO, *, key: bytes) -> None:
        self._frames = _Frames(file)
        self.header = self._frames.header
        self._aead = _aead(key, self._frames.encoded_header, self.header.salt)
        self._clear = b""
        self._count = 0
        self._ahead = self._frames.next()
        if self._ahead is None:  # a file of no chunk has no last one, whose mark would prove the end
            raise BadInputError("the backup is cut off", hint=_DAMAGED)

    def read(self, size: int = CHUNK, /) -> bytes:
        """Return the next octets in clear, at most `size`; none at the end, which is then proven."""
        while len(self._clear) < size and self._ahead is not None:
            sealed, self._ahead = self._ahead, self._frames.next()
            self._clear += self._open(sealed, _MORE if self._ahead is not None else _LAST)
        found, self._clear = self._clear[:size], self._clear[size:]
        return found

    def finish(self) -> Checked:
        """Read to the end; return what the signature must be checked against."""
        while self.read(CHUNK):
            pass
        return self._frames.checked()

    def _open(self, sealed: bytes, last: bytes) -> bytes:
        try:
            clear = self._aead.decrypt(_nonce(self._count, last), sealed, None)
        except InvalidTag as error:
            what = "these shares do not open it" if self._count == 0 else "it was changed"
            raise BadInputError(
                f"the backup cannot be opened: {what}, or it is damaged", hint=_DAMAGED
            ) from error
        self._count += 1
        return clear


def check(file: BinaryIO) -> Checked:
    """Read a backup without its key: its shape, its header, and what its signature must be checked against.

    Raises:
        BadInputError: it is none, or was cut.
    """
    frames = _Frames(file)
    while frames.next() is not None:
        pass
    return frames.checked()


class _Frames:
    """The outer shape of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0
        if self._take(len(MAGIC)) != MAGIC:
            raise BadInputError("this is no backup of a fleet", hint="fleet ca backup FILE makes one")
        self.encoded_header = self._take(self._length(_LONGEST_HEADER))
        self.header = _header(self.encoded_header)

    def next(self) -> bytes | None:
        """Return the next sealed chunk, or None after the last."""
        length = self._length(CHUNK + _TAG)
        return self._take(length) if length else None

    def checked(self) -> Checked:
        """Return what was read, at the end."""
        digest = self._digest.hexdigest()
        signature = self._take(self._length(_LONGEST_SIGNATURE))
        if self._file.read(1):
            raise BadInputError("something follows the end of the backup", hint=_DAMAGED)
        return Checked(header=self.header, size=self._size, digest=digest, signature=signature)

    def _length(self, longest: int) -> int:
        length = int.from_bytes(self._take(_LENGTH), "big")
        if length > longest:
            raise BadInputError("the backup is damaged: a length in it is none", hint=_DAMAGED)
        return length

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise BadInputError("the backup is cut off", hint=_DAMAGED)
        self._digest.update(data)
        self._size += size
        return data


def _aead(key: bytes, encoded_header: bytes, salt: bytes) -> AESGCM:
    """Bind the key to the header (RFC 5869): under another header, no chunk opens."""
    if len(key) != KEY_BYTES:
        raise BadInputError("the shares hold a key of another length", hint="name the shares of this backup")
    info = MAGIC + hashlib.sha256(encoded_header).digest()
    return AESGCM(HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(key))


def _nonce(count: int, last: bytes) -> bytes:
    """Number the chunks and mark the last (STREAM, Hoang et al. 2015): order and end cannot be changed."""
    return count.to_bytes(_COUNTER, "big") + last


def _header(encoded: bytes) -> Header:
    try:
        fields = parse_object(encoded)
        return Header(
            fleet=parse_domain(fields.text("fleet", longest=32)),
            backup_id=fields.hex("backup", lowest=ID_BYTES, highest=ID_BYTES).hex(),
            made_at=fields.time("made_at"),
            quorum=_quorum(fields),
            share_set=fields.integer("share_set", lowest=0, highest=2**15 - 1),
            salt=fields.hex("salt", lowest=SALT_BYTES, highest=SALT_BYTES),
            audit_size=fields.integer("audit_size", lowest=1, highest=2**53),
            audit_root=bytes.fromhex(fields.sha256("audit_root")),
            audit_key_pem=fields.pem("audit_key"),
        )
    except MalformedMessageError as error:
        raise BadInputError(f"the header of the backup is damaged: {error}", hint=_DAMAGED) from error


def _quorum(fields: Fields) -> Quorum:
    count = fields.integer("shares", lowest=1, highest=MOST_SHARES)
    return Quorum(needed=fields.integer("shares_needed", lowest=1, highest=count), count=count)
