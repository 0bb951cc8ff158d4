"""`fleet ca backup`: keys, database, configuration and certificates of a home in one sealed file.

Works beside a server that runs. The key that opens the file is split before the file is named, and is kept
nowhere. What a restored home makes anew (logs, sockets, a broker's own state) is left out.
"""

import hashlib
import io
import os
import secrets
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from fleet import config
from fleet.ca.auditkey import load_audit_signer
from fleet.ca.backup import ID_BYTES, SALT_BYTES, Header, Sealer
from fleet.ca.shares import KEY_BYTES, Quorum, SplitKey, split_key
from fleet.errors import FleetError, RefusedError
from fleet.files import PUBLIC_MODE, SECRET_MODE, sync_folder, telling
from fleet.home import Home
from fleet.ra.keeping.backup_manifest import NAME, FileEntry, LeftOut, Manifest, keys_of
from fleet.scratch import scratch
from fleet.store.copying import Inventory, copy_database

LARGEST_FILE = 16 * 1024 * 1024
"""Of what lies in a home beside its database; what is larger is none of ours."""

_READINGS = 5
_BROKERS = frozenset({".pem", ".crt", ".key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOrder:
    """A backup to be made: by how many it can be opened, and what makes its key."""

    backup_id: str
    quorum: Quorum
    now: datetime
    randomness: Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was made, and the shares of its key, which exist here alone."""

    path: Path
    header: Header
    manifest: Manifest
    digest: str
    """SHA-256 of what is signed, hex."""
    key: SplitKey


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What a home holds beside its database."""

    files: Mapping[str, tuple[bytes, int]]
    """By path: content and mode."""
    left_out: tuple[LeftOut, ...]


def new_backup_id(randomness: Callable[[int], bytes]) -> str:
    """Return a name for a backup: 16 hex."""
    return randomness(ID_BYTES).hex()


def backup_name(fleet: str, backup_id: str, now: datetime) -> str:
    """Return the file name of a backup in a folder."""
    return f"{fleet}-{now:%Y%m%dT%H%M%SZ}-{backup_id}.backup"


def require_free(out: Path) -> None:
    """Check that there is no such file yet; raises `RefusedError`."""
    if out.exists() or out.is_symlink():
        raise RefusedError(f"{out} exists already", hint="name a new file: no backup is overwritten")


def make_backup(home: Home, order: BackupOrder, *, out: Path) -> Backup:
    """Write a backup of a home to a new file, 0600.

    Raises:
        RefusedError: there is such a file, or a home in which nothing is on record.
        FleetError: something cannot be read or written; no file is left.
    """
    require_free(out)
    fleet = config.load(home.config).fleet
    key = order.randomness(KEY_BYTES)
    split = split_key(key, order.quorum)
    with _database_copy(home) as (database, inventory):
        contents = _read_until_still(home)
        manifest = _manifest(fleet, order, contents, inventory, database)
        header = _header(home, order, manifest, split)
        with _new_file(out) as file:
            sealer = Sealer(file, header, key=key)
            _write_archive(sealer, manifest, contents, database)
            digest = sealer.finish(load_audit_signer(home.audit_key))
    return Backup(path=out, header=header, manifest=manifest, digest=digest, key=split)


@contextmanager
def _database_copy(home: Home) -> Iterator[tuple[Path, Inventory]]:
    """Copy the database within the home, for as long as the body runs."""
    with scratch(home.run / "backup") as folder:
        copy = folder / home.database.name
        yield copy, copy_database(home.database, copy)


def _read_until_still(home: Home) -> _Contents:
    """Read all files twice, until both readings agree: a key and its certificate are replaced together."""
    before = _read(home)
    for _ in range(_READINGS):
        after = _read(home)
        if after == before:
            return after
        before = after
    raise FleetError("the files of the home change all the time", hint="try again in a moment")


def _read(home: Home) -> _Contents:
    files: dict[str, tuple[bytes, int]] = {}
    left_out: list[LeftOut] = []
    for path in _candidates(home):
        name = path.relative_to(home.root).as_posix()
        if why := _why_not(home, path):
            left_out.append(LeftOut(path=name, why=why))
            continue
        with telling(path):
            closed = not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
            files[name] = (path.read_bytes(), SECRET_MODE if closed else PUBLIC_MODE)
    return _Contents(files=files, left_out=tuple(left_out))


def _candidates(home: Home) -> Iterator[Path]:
    """Yield what stands in the home, in the order of its names, but for what a run makes anew."""
    database = home.database.name
    for folder, folders, names in os.walk(home.root):
        here = Path(folder)
        folders[:] = sorted(one for one in folders if _is_kept(home, here / one))
        for name in sorted(names):
            is_database = here == home.root and name.startswith(database)
            is_list = name.endswith(".crl.pem")
            in_broker = here.is_relative_to(home.broker)
            is_made_anew = in_broker and (is_list or Path(name).suffix not in _BROKERS)
            if not (name.startswith(".") or is_database or is_made_anew or here / name == home.audit_head):
                yield here / name


def _is_kept(home: Home, folder: Path) -> bool:
    """Tell whether a folder may hold what nobody can make anew."""
    return folder == home.station_roots or (not folder.name.startswith(".") and folder != home.run)


def _why_not(home: Home, path: Path) -> str:
    """Return why a file is left out, or nothing."""
    with telling(path):
        real = path.resolve()
        if not real.is_relative_to(home.root.resolve()):
            return "it leads out of the home"
        if not real.is_file():
            return "it is no regular file"
        return "" if real.stat().st_size <= LARGEST_FILE else "it is too large to be the fleet's"


def _manifest(
    fleet: str, order: BackupOrder, contents: _Contents, inventory: Inventory, database: Path
) -> Manifest:
    files = [
        FileEntry(path=name, size=len(data), digest=hashlib.sha256(data).hexdigest(), mode=mode)
        for name, (data, mode) in contents.files.items()
    ]
    with telling(database), database.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append(FileEntry(path="fleet.db", size=file.tell(), digest=digest, mode=SECRET_MODE))
    return Manifest(
        fleet=fleet,
        backup_id=order.backup_id,
        made_at=order.now,
        program=version("fleet-provisioning"),
        audit_size=inventory.trail.size,
        audit_root=inventory.trail.root(),
        rows=inventory.rows,
        files=tuple(files),
        keys=keys_of(inventory.authorities, {name: data for name, (data, _) in contents.files.items()}),
        left_out=contents.left_out,
    )


def _header(home: Home, order: BackupOrder, manifest: Manifest, split: SplitKey) -> Header:
    with telling(home.audit_public_key):
        audit_key = home.audit_public_key.read_text(encoding="ascii")
    return Header(
        fleet=manifest.fleet,
        backup_id=order.backup_id,
        made_at=order.now,
        quorum=order.quorum,
        share_set=split.share_set,
        salt=order.randomness(SALT_BYTES),
        audit_size=manifest.audit_size,
        audit_root=manifest.audit_root,
        audit_key_pem=audit_key,
    )


def _write_archive(sealer: Sealer, manifest: Manifest, contents: _Contents, database: Path) -> None:
    """Write the manifest, then every file that it names, in its order: POSIX tar (pax)."""
    encoded = manifest.encode()
    listing = FileEntry(path=NAME, size=len(encoded), digest="", mode=SECRET_MODE)
    with tarfile.open(fileobj=sealer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_member(listing, manifest.made_at), io.BytesIO(encoded))
        for entry in manifest.files[:-1]:
            archive.addfile(_member(entry, manifest.made_at), io.BytesIO(contents.files[entry.path][0]))
        with telling(database), database.open("rb") as file:
            archive.addfile(_member(manifest.files[-1], manifest.made_at), file)


def _member(entry: FileEntry, at: datetime) -> tarfile.TarInfo:
    member = tarfile.TarInfo(entry.path)
    member.size, member.mode, member.mtime = entry.size, entry.mode, int(at.timestamp())
    return member


@contextmanager
def _new_file(out: Path) -> Iterator[BinaryIO]:
    """Write a file that is whole, durable and new, or not there."""
    temporary = out.parent / f".{out.name}.{secrets.token_hex(8)}"
    with telling(out):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, SECRET_MODE), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, out)  # unlike rename(2), it never replaces what came there meanwhile
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync_folder(out.parent)
