"""The files of a backup, written into an empty folder, each compared with what the manifest says of it.

It writes where the manifest says and nowhere else, and believes no digest but the one that it computes.
"""

import hashlib
import os
import tarfile
from collections.abc import Sequence
from typing import BinaryIO

from device_agent.wire.secret import Secret
from fleet import config
from fleet.ca.auditkey import load_audit_verifier
from fleet.ca.backup import CHUNK, Header, Opener
from fleet.ca.shares import combine_shares, share_set_of
from fleet.errors import BadInputError
from fleet.files import make_folder, telling
from fleet.home import Home
from fleet.ra.keeping.backup_manifest import LONGEST, NAME, FileEntry, Manifest, parse_manifest
from fleet.store.copying import take_inventory

_DAMAGED = "take another copy of the backup"


def unpack(file: BinaryIO, shares: Sequence[Secret], home: Home) -> Manifest:
    """Write the files of a backup into an empty folder, each compared with its digest.

    Raises:
        BadInputError: the backup is damaged, or the shares are not its own.
    """
    opener = Opener(file, key=combine_shares(shares))
    _require_own_shares(opener.header, shares)
    try:
        with tarfile.open(fileobj=opener, mode="r|") as archive:
            manifest = _read_manifest(archive)
            for entry in manifest.files:
                _unpack_file(archive, entry, home)
            if archive.next() is not None:
                raise BadInputError("the backup holds more than its manifest names", hint=_DAMAGED)
    except tarfile.TarError as error:
        raise BadInputError("the backup holds no archive", hint=_DAMAGED) from error
    checked = opener.finish()
    if not load_audit_verifier(home.audit_public_key)(checked.signature, checked.message()):
        raise BadInputError("the backup is not signed by the audit key in it", hint=_DAMAGED)
    return manifest


def require_whole(home: Home, manifest: Manifest) -> None:
    """Compare the database and the configuration of an unpacked home with its manifest.

    Raises:
        BadInputError: they are not what the manifest says.
    """
    inventory = take_inventory(home.database)
    if (inventory.trail.size, inventory.trail.root()) != (manifest.audit_size, manifest.audit_root):
        raise BadInputError("the audit trail in the backup is not what its manifest says", hint=_DAMAGED)
    if dict(inventory.rows) != dict(manifest.rows):
        raise BadInputError("the database in the backup is not what its manifest says", hint=_DAMAGED)
    if config.load(home.config).fleet != manifest.fleet:
        raise BadInputError("the configuration in the backup is another fleet's", hint=_DAMAGED)


def _require_own_shares(header: Header, shares: Sequence[Secret]) -> None:
    if any(share_set_of(share) != header.share_set for share in shares):
        raise BadInputError(
            f"the shares are not of backup {header.backup_id}", hint="each share says which backup it is of"
        )


def _read_manifest(archive: tarfile.TarFile) -> Manifest:
    member = archive.next()
    if member is None or member.name != NAME or not 0 < member.size <= LONGEST:
        raise BadInputError("the backup does not begin with its manifest", hint=_DAMAGED)
    source = archive.extractfile(member)
    if source is None:
        raise BadInputError("the manifest of the backup is no file", hint=_DAMAGED)
    return parse_manifest(source.read())


def _unpack_file(archive: tarfile.TarFile, entry: FileEntry, home: Home) -> None:
    """Write one file durably enough for `new_home`, which syncs all of them before it names the home."""
    member = archive.next()
    source = None if member is None else archive.extractfile(member)
    if member is None or source is None or (member.name, member.size) != (entry.path, entry.size):
        raise BadInputError(f"the backup holds no {entry.path} where its manifest says", hint=_DAMAGED)
    path = home.root / entry.path
    make_folder(path.parent)
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with telling(path), os.fdopen(os.open(path, flags, entry.mode), "wb") as target:
        os.fchmod(target.fileno(), entry.mode)
        while piece := source.read(CHUNK):
            digest.update(piece)
            target.write(piece)
    if digest.hexdigest() != entry.digest:
        raise BadInputError(f"{entry.path} in the backup is not what its manifest says", hint=_DAMAGED)
