"""`fleet ca backup, restore, drill, unfreeze`: what brings a fleet back when its machine is gone.

A share is shown on the terminal or written to a file of its own (0600), and stands nowhere else.
"""

import asyncio
import getpass
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.wire.fields import time_text
from device_agent.wire.secret import Secret
from fleet import config
from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import (
    Column,
    Form,
    Members,
    say,
    show_list,
    show_record,
    write_json,
)
from fleet.errors import ExitCode, NeedsAttentionError, UsageError
from fleet.files import make_folder, read_secret_bytes, telling, write_file
from fleet.home import Home, open_home

if TYPE_CHECKING:
    from fleet.ca.backup import Checked
    from fleet.ra.backup import Backup
    from fleet.ra.drill import DrillReport
    from fleet.ra.restore import Restored
    from fleet.service.parts import Parts

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
_RESTORED = {
    "home": "restored",
    "backup": "id",
    "made_at": "as of",
    "proven_until": "proven until",
    "replayed": "acts done again",
    "certificates": "certificates on record",
    "revoked": "revoked again",
    "codes_lost": "codes gone",
    "keys_elsewhere": "keys not in it",
}
_STEPS = (
    Column(title="STEP", member="step", whole=True),
    Column(title="OK", member="ok"),
    Column(title="SECONDS", member="seconds"),
    Column(title="WHAT WAS SEEN", member="text", whole=True),
)

_file = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@options.home
@options.as_json
@_file
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
    _show(_make(open_home(home), file, shares, shares_to), form, names=_MADE)
    say("next: give each share to another person, and keep fleet audit export on another machine")


def _make(home: Home, file: Path, shares: str, shares_to: Path | None) -> Members:
    from fleet.ca.shares import parse_quorum  # noqa: PLC0415 - the whole CA, needed here
    from fleet.ra.backup import BackupOrder, backup_name, make_backup, new_backup_id  # noqa: PLC0415
    from fleet.service import utc_now  # noqa: PLC0415

    quorum, now, backup_id = parse_quorum(shares), utc_now(), new_backup_id(os.urandom)
    if shares_to is None and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("there is no terminal to show the shares on", hint="--shares-to DIR writes them")
    fleet = config.load(home.config).fleet
    out = file / backup_name(fleet, backup_id, now) if file.is_dir() else file
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
    manifest = made.manifest
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
        "keys_elsewhere": [f"{key.folder} ({key.kind})" for key in manifest.keys if not key.is_here],
        "left_out": [f"{one.path}: {one.why}" for one in manifest.left_out],
    }


def _check_members(home: Path, file: Path) -> Members:
    from fleet.ca import backup as archive  # noqa: PLC0415 - the whole CA, needed here

    with telling(file), file.open("rb") as opened:
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
    from fleet.ca.auditkey import load_audit_verifier, parse_audit_verifier  # noqa: PLC0415

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


@click.command()
@options.as_json
@_file
@click.option("--into", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The new home.")
@click.option(
    "--share",
    "share_files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A file that holds a share; once for each. Without it they are asked for.",
)
@click.option(
    "--audit",
    "trail",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The audit trail that was kept elsewhere: what fleet audit export printed.",
)
def restore(form: Form, *, file: Path, into: Path, share_files: tuple[Path, ...], trail: Path | None) -> None:
    """Make a fleet home from a backup: whole, or not at all.

    With --audit, whatever was revoked, suspended, registered or issued after the backup is so again, and
    that is checked. Without it nobody can know, and no device gets a certificate until: fleet ca unfreeze.
    """
    from fleet.ra import restore as restoring  # noqa: PLC0415 - the whole server, needed here only
    from fleet.service import utc_now  # noqa: PLC0415

    order = restoring.RestoreOrder(
        archive=file, shares=_shares(file, share_files), into=into, trail=trail, actor="operator:local"
    )
    restored = asyncio.run(restoring.restore(order, clock=utc_now))
    _show(_restored_members(restored), form, names=_RESTORED)
    for line in _warnings(restored):
        say(line)
    say(f"next: fleet --home {into} serve")


def _shares(file: Path, share_files: Sequence[Path]) -> list[Secret]:
    """Return the shares from files, or from the people who have them."""
    from fleet.ca import backup as archive  # noqa: PLC0415 - the whole CA, needed here
    from fleet.ca.shares import parse_share  # noqa: PLC0415

    if share_files:
        return [parse_share(_text(path)) for path in share_files]
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the shares on", hint="--share FILE, once for each")
    with telling(file), file.open("rb") as opened:
        header = archive.check(opened).header
    say(f"backup {header.backup_id} of fleet {header.fleet}: {header.quorum.needed} shares are needed")
    numbers = range(1, header.quorum.needed + 1)
    return [parse_share(getpass.getpass(f"share {number} (not shown): ")) for number in numbers]


def _text(path: Path) -> str:
    return read_secret_bytes(path).decode("ascii", errors="replace")


def _restored_members(restored: "Restored") -> Members:
    trail, manifest = restored.trail, restored.manifest
    return {
        "home": str(restored.home),
        "fleet": manifest.fleet,
        "backup": manifest.backup_id,
        "made_at": time_text(manifest.made_at),
        "proven_until": None if trail is None else time_text(trail.until),
        "frozen": trail is None,
        "replayed": sum(restored.done.values()),
        "acts": dict(restored.done),
        "acts_unknown": dict(restored.strange),
        "certificates": restored.serials,
        "revoked": restored.revoked,
        "codes_lost": restored.codes_lost,
        "keys_elsewhere": [f"{key.folder} ({key.kind})" for key in manifest.keys if not key.is_here],
    }


def _warnings(restored: "Restored") -> list[str]:
    """Return what a person must know of what is not proven."""
    lines: list[str] = []
    if restored.trail is None:
        since = time_text(restored.manifest.made_at)
        lines.append(f"warning: nothing is known of what happened since {since}: what was revoked after it")
        lines.append("warning: is not revoked here, and what was issued after it is refused by the brokers")
        lines.append("warning: no device enrolls or renews until you have looked: fleet ca unfreeze")
    lines += [
        f"warning: {count} acts {action} are not known to this version, and were not done again"
        for action, count in sorted(restored.strange.items())
    ]
    if restored.codes_lost:
        lines.append(f"warning: {restored.codes_lost} one-time codes work no more: make new ones")
    return lines


@click.command()
@options.home
@options.as_json
@click.pass_context
def drill(context: click.Context, home: Path, form: Form) -> None:
    """Try whether a backup brings this fleet back: restore one beside the home, start it, compare it.

    Nothing of it is left. Exit code 0: it does; 7: it does not, and the table says where.
    """
    from fleet.ra import drill as drills  # noqa: PLC0415 - the whole server, needed here only
    from fleet.service import utc_now  # noqa: PLC0415

    place = open_home(home)
    order = drills.DrillOrder(
        home=place, clock=utc_now, randomness=os.urandom, open_home=_opened, export=_exporter(home)
    )
    report = asyncio.run(drills.drill(order))
    failed = next((step.step for step in report.steps if not step.ok), None)
    body: Members = {"backup": report.backup_id, **({} if failed is None else {"failed": failed})}
    with_client(home, lambda client: client.post("drills", body=body))
    _show_drill(report, form)
    context.exit(ExitCode.DONE if report.passed else ExitCode.NEEDS_ATTENTION)


@asynccontextmanager
async def _opened(home: Home) -> AsyncIterator["Parts"]:
    """Open a home as the server does when it starts."""
    from fleet.service import utc_now  # noqa: PLC0415 - the whole server, needed here only
    from fleet.service.parts import open_parts  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        yield await open_parts(stack, home, config.load(home.config), utc_now)


def _exporter(home: Path) -> Callable[[Path, int], None]:
    def export(path: Path, first: int) -> None:
        def act(client: Client) -> None:
            with telling(path), path.open("xb") as file:
                file.writelines(client.lines("audit", "export", after=first - 1))

        with_client(home, act)

    return export


def _show_drill(report: "DrillReport", form: Form) -> None:
    steps: list[Members] = [
        {"step": one.step, "ok": one.ok, "seconds": round(one.seconds, 3), "text": one.text}
        for one in report.steps
    ]
    if form is not Form.TABLE:
        write_json({"backup": report.backup_id, "passed": report.passed, "steps": steps})
        return
    show_list(steps, form, columns=_STEPS)
    if report.passed:
        say("a backup brings this fleet back; nothing of the drill is left")
    else:
        say("error: a backup does not bring this fleet back")
        say("hint: mend what the last line tells, then run it again")


@click.command()
@options.record
@options.reason
def unfreeze(home: Place, form: Form, *, reason: str) -> None:
    """Let devices enroll and renew again, after a restore without its latest audit trail.

    First revoke again what was revoked since the backup: nobody else can know of it.
    """
    body = {"reason": reason} if reason else {}
    found = with_client(home, lambda client: client.post("unfreeze", body=body))
    show_record(found, form, names={"since": "unknown remains what happened from"})


def _show(found: Members, form: Form, *, names: dict[str, str]) -> None:
    if form is Form.TABLE:
        found = {name: value for name, value in found.items() if value not in ([], None)}
        show_record(found, form, names=names)
    else:
        write_json(found)
