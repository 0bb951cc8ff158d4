"""`fleet ca backup`: one file that brings a fleet back when its machine is gone, and the shares that open it.

A share is shown on the terminal or written to a file of its own (0600), and stands nowhere else.
"""

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.wire.fields import time_text
from device_agent.wire.secret import Secret
from fleet import config
from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.output import (
    Form,
    Members,
    say,
    show_record,
    write_json,
)
from fleet.errors import NeedsAttentionError, UsageError
from fleet.files import make_folder, open_input, write_file
from fleet.home import Home, open_home
from fleet.terminal import can_ask, is_told

if TYPE_CHECKING:
    from fleet.ca.backup import Checked
    from fleet.ra.keeping.backup import Backup

_CLEAR = "\x1b[2J\x1b[3J\x1b[H"
"""Clears a terminal and what it has scrolled away (ECMA-48 ED; 3 as xterm has it)."""

_MADE = {
    "file": "backup",
    "backup": "id",
    "made_at": "made",
    "files": "files in it",
    "size": "octets",
    "sha256": "SHA-256",
    "shares": "shares",
    "share_files": "written to",
    "passphrases": "passphrases in it",
    "keys_elsewhere": "keys not in it",
    "left_out": "left out",
}
_CHECKED = {
    "fleet": "fleet",
    "backup": "id",
    "made_at": "made",
    "size": "octets",
    "sha256": "SHA-256",
    "shares": "shares",
    "audit_entries": "audit entries",
    "signed_by": "signed by",
}

_PASSPHRASES = {"issuing": "ca/issuing-passphrase", "root": "ca/root-passphrase"}


@click.command()
@options.home
@options.as_json
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--shares", default="2of3", metavar="MofN", help="How many open it, of how many [2of3].")
@click.option(
    "--shares-to",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write each share to a file of its own there; else each is shown on the terminal, one at a time.",
)
@click.option("--check", is_flag=True, help="Check FILE, for which no share is needed, and make nothing.")
def backup(home: Path, form: Form, *, file: Path, shares: str, shares_to: Path | None, check: bool) -> None:
    """Back up keys, database, configuration and certificates in one encrypted file.

    FILE may be a folder. The server may run. The key of the file is split into shares; give each to
    another person. Keys in a token are named and not copied. Keep the audit trail elsewhere too
    (fleet audit export): it brings a restored backup up to date.
    """
    if check:
        _show(_check_members(home, file), form, names=_CHECKED)
        return
    made = _make(open_home(home), file, shares, shares_to)
    _show(made, form, names=_MADE)
    if not made["starts_alone"]:
        say("warning: the passphrase of the issuing keys is not in it: keep a copy, or it starts nothing")
    if form is Form.TABLE:
        say("next: give each share to another person, and keep fleet audit export on another machine")


def _make(home: Home, file: Path, shares: str, shares_to: Path | None) -> Members:
    from fleet.ca.shares import parse_quorum  # noqa: PLC0415 - the whole CA, needed here
    from fleet.ra.keeping.backup import (  # noqa: PLC0415 - as above
        BackupOrder,
        backup_name,
        make_backup,
        new_backup_id,
        require_free,
    )
    from fleet.service import utc_now  # noqa: PLC0415 - as above

    quorum, now, backup_id = parse_quorum(shares), utc_now(), new_backup_id(os.urandom)
    if shares_to is None and not (can_ask() and is_told()):
        raise UsageError("there is no terminal to show the shares on", hint="--shares-to DIR writes them")
    fleet = config.load(home.config).fleet
    out = file / backup_name(fleet, backup_id, now) if file.is_dir() else file
    require_free(out)
    body: Members = {"backup": backup_id, "shares": str(quorum)}
    with_client(home.root, lambda client: client.post("backups", body=body))
    order = BackupOrder(backup_id=backup_id, quorum=quorum, now=now, randomness=os.urandom)
    made = make_backup(home, order, out=out)
    try:
        written = _hand_out(made, shares_to)
    except BaseException:
        out.unlink(missing_ok=True)  # without its shares it is worth nothing
        raise
    return _made_members(made, written)


def _hand_out(made: "Backup", folder: Path | None) -> list[str]:
    """Write the shares to files of their own, or show them one after another; return the files."""
    header, written = made.header, []
    if folder is not None:
        make_folder(folder)
    for number, share in enumerate(made.key.shares, start=1):
        title = (
            f"# fleet {header.fleet}, backup {header.backup_id}: share {number} of {header.quorum.count},"
            f" any {header.quorum.needed} of which open it"
        )
        if folder is None:
            _show_share(title, share)
        else:
            path = folder / f"{header.fleet}-{header.backup_id}-share-{number}.txt"
            write_file(path, f"{title}\n{share.reveal()}\n".encode())
            written.append(str(path))
    return written


def _show_share(title: str, share: Secret) -> None:
    """Show a share to the one person it is for; what is on the screen goes before the next one comes."""
    sys.stderr.write(f"{_CLEAR}{title}\n\n{share.reveal()}\n\n")
    sys.stderr.flush()
    getpass.getpass("write it down, then press Enter: ")
    sys.stderr.write(_CLEAR)
    sys.stderr.flush()


def _made_members(made: "Backup", written: list[str]) -> Members:
    manifest, paths = made.manifest, {entry.path for entry in made.manifest.files}
    return {
        "file": str(made.path),
        "backup": manifest.backup_id,
        "fleet": manifest.fleet,
        "made_at": time_text(manifest.made_at),
        "size": made.path.stat().st_size,
        "sha256": made.digest,
        "files": len(manifest.files),
        "shares": str(made.header.quorum),
        "share_files": written,
        "passphrases": [name for name, path in _PASSPHRASES.items() if path in paths],
        "starts_alone": _PASSPHRASES["issuing"] in paths,
        "keys_elsewhere": [f"{key.folder} ({key.kind})" for key in manifest.keys if not key.is_here],
        "left_out": [f"{one.path}: {one.why}" for one in manifest.left_out],
    }


def _check_members(home: Path, file: Path) -> Members:
    from fleet.ca import backup as archive  # noqa: PLC0415 - the whole CA, needed here

    with open_input(file) as opened:
        checked = archive.check(opened)
    header = checked.header
    return {
        "fleet": header.fleet,
        "backup": header.backup_id,
        "made_at": time_text(header.made_at),
        "size": checked.size,
        "sha256": checked.digest,
        "shares": str(header.quorum),
        "share_set": header.share_set,
        "audit_entries": header.audit_size,
        "signed_by": _signed_by(Home(home), checked),
    }


def _signed_by(home: Home, checked: "Checked") -> str:
    """Return whose audit key has signed a backup: this home's, or else one that the file itself names."""
    from fleet.ca.auditkey import load_audit_verifier, parse_audit_verifier  # noqa: PLC0415 - as above

    if home.audit_public_key.exists():
        is_signed, who = load_audit_verifier(home.audit_public_key), f"the audit key of {home.root}"
    else:
        is_signed = parse_audit_verifier(checked.header.audit_key_pem.encode(), named="the backup")
        who = "the audit key that it names itself: compare it with a copy of audit/public.pem"
    if not is_signed(checked.signature, checked.message()):
        raise NeedsAttentionError(
            f"the backup was changed, or is not signed by {who}", hint="take another copy of it"
        )
    return who


def _show(found: Members, form: Form, *, names: dict[str, str]) -> None:
    if form is Form.TABLE:
        found = {name: value for name, value in found.items() if value not in ([], None)}
        show_record(found, form, names=names)
    else:
        write_json(found)


COMMANDS: tuple[click.Command, ...] = (backup,)
