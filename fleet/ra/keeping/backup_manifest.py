"""The list of what a backup holds: every file with its digest, every authority's key and where it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.core.authority import AuthorityRecord, KeyKind
from fleet.errors import BadInputError
from fleet.files import PUBLIC_MODE, SECRET_MODE
from fleet.home import STATION_ROOTS

NAME = "manifest.json"
"""Of the first member of the archive."""
LONGEST = 16 * 1024 * 1024

_VERSION = 1
_LARGEST = 2**53
_LONGEST_PATH = 512
_LONGEST_URI = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file of the home; `path` is below it."""

    path: str
    size: int
    digest: str
    """SHA-256, hex."""
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """Where the key of a root or issuing CA is: what is in a token or elsewhere is named, never copied."""

    folder: str
    issuer: str
    kind: KeyKind
    is_here: bool
    """The key's file is in the backup."""
    uri: str = ""
    """Where the key is, if it is in a token (RFC 7512)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A file that is not in the backup, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup holds."""

    fleet: str
    backup_id: str
    made_at: datetime
    program: str
    """Version that made it."""
    audit_size: int
    audit_root: bytes
    rows: Mapping[str, int]
    """Of each table of the database."""
    files: tuple[FileEntry, ...]
    keys: tuple[KeyEntry, ...]
    left_out: tuple[LeftOut, ...]

    def encode(self) -> bytes:
        """Return the manifest as it stands in the archive."""
        members = {
            "version": _VERSION,
            "fleet": self.fleet,
            "backup": self.backup_id,
            "made_at": time_text(self.made_at),
            "program": self.program,
            "audit_size": self.audit_size,
            "audit_root": self.audit_root.hex(),
            "rows": dict(self.rows),
            "files": [
                {"path": one.path, "size": one.size, "sha256": one.digest, "mode": f"{one.mode:o}"}
                for one in self.files
            ],
            "keys": [
                {
                    "folder": one.folder,
                    "issuer": one.issuer,
                    "key": one.kind.value,
                    "here": one.is_here,
                    "uri": one.uri or None,
                }
                for one in self.keys
            ],
            "left_out": [{"path": one.path, "why": one.why} for one in self.left_out],
        }
        return json.dumps(members, indent=1).encode()


def keys_of(records: Sequence[AuthorityRecord], files: Mapping[str, bytes]) -> tuple[KeyEntry, ...]:
    """Return where the authorities' keys are, given what stands in the home's files, by path."""
    return tuple(
        KeyEntry(
            folder=record.folder,
            issuer=record.issuer,
            kind=record.key,
            is_here=f"ca/{record.folder}/ca.key" in files,
            uri=files.get(f"ca/{record.folder}/ca.pkcs11", b"").decode(errors="replace").strip(),
        )
        for record in records
    )


def parse_manifest(content: bytes) -> Manifest:
    """Return the manifest of an archive.

    Raises:
        BadInputError: it is none, of a later version, or names a path outside of a home.
    """
    try:
        members: object = json.loads(content)
        if not isinstance(members, dict):
            raise MalformedMessageError("it is no object")
        return _manifest(members)
    except (ValueError, RecursionError, MalformedMessageError) as error:
        raise BadInputError(
            f"the manifest of the backup cannot be read: {error}",
            hint="restore with the version that made it",
        ) from error


def _manifest(members: Mapping[str, object]) -> Manifest:
    fields = Fields(members)
    if fields.integer("version", lowest=1, highest=_LARGEST) != _VERSION:
        raise MalformedMessageError("it is of a later version of fleet")
    rows = Fields(members).object("rows")
    return Manifest(
        fleet=parse_domain(fields.text("fleet", longest=32)),
        backup_id=fields.text("backup", longest=32),
        made_at=fields.time("made_at"),
        program=fields.text("program", longest=64),
        audit_size=fields.integer("audit_size", lowest=1, highest=_LARGEST),
        audit_root=bytes.fromhex(fields.sha256("audit_root")),
        rows={name: rows.integer(name, lowest=0, highest=_LARGEST) for name in rows.names()},
        files=tuple(_file(one) for one in _items(members, "files")),
        keys=tuple(_key(one) for one in _items(members, "keys")),
        left_out=tuple(
            LeftOut(path=one.text("path", longest=_LONGEST_PATH), why=one.text("why", longest=_LONGEST_PATH))
            for one in _items(members, "left_out")
        ),
    )


def _file(fields: Fields) -> FileEntry:
    mode = int(fields.text("mode", longest=4), 8)
    if mode not in {SECRET_MODE, PUBLIC_MODE}:
        raise MalformedMessageError("a file has another mode than ours")
    return FileEntry(
        path=_path(fields.text("path", longest=_LONGEST_PATH)),
        size=fields.integer("size", lowest=0, highest=_LARGEST),
        digest=fields.sha256("sha256"),
        mode=mode,
    )


def _path(text: str) -> str:
    """Return a path that stays below the home, in its one form."""
    path = PurePosixPath(text)
    if path.is_absolute() or str(path) != text or any(map(_leads_elsewhere, path.parts)):
        raise MalformedMessageError("a file stands outside of the home")
    return text


def _leads_elsewhere(part: str) -> bool:
    """Tell whether a part of a path is none of a home's: of what is hidden, a home has one folder alone."""
    return part.startswith(".") and part != STATION_ROOTS


def _key(fields: Fields) -> KeyEntry:
    return KeyEntry(
        folder=fields.text("folder", longest=_LONGEST_PATH),
        issuer=fields.text("issuer", longest=128),
        kind=fields.word("key", of=KeyKind),
        is_here=fields.flag("here"),
        uri=fields.text("uri", longest=_LONGEST_URI) if "uri" in fields else "",
    )


def _items(members: Mapping[str, object], name: str) -> list[Fields]:
    found = members.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise MalformedMessageError(f"{name} must be a list of objects")
    return [Fields(one) for one in found]
