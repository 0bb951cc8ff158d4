"""`fleet ca restore, drill, unfreeze`: a fleet that comes back, and the proof beforehand that it would.

A share comes from a file of its owner's or is typed in; it stands in no command line.
"""

import asyncio
import getpass
import os
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
from fleet.cli.output import Column, Form, Members, say, show_list, show_record, write_json
from fleet.errors import ExitCode, UsageError
from fleet.files import open_input, read_secret_bytes, telling
from fleet.home import Home, open_home
from fleet.terminal import can_ask

if TYPE_CHECKING:
    from fleet.ra.keeping.drill import DrillReport
    from fleet.ra.keeping.restore import Restored
    from fleet.service.parts import Parts

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


@click.command()
@options.as_json
@click.argument("file", type=click.Path(path_type=Path))
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
    from fleet.ra.keeping import restore as restoring  # noqa: PLC0415 - the whole server, needed here only
    from fleet.service import utc_now  # noqa: PLC0415 - as above

    order = restoring.RestoreOrder(
        archive=file, shares=_shares(file, share_files), into=into, trail=trail, actor="operator:local"
    )
    restored = asyncio.run(restoring.restore(order, clock=utc_now))
    found = _restored_members(restored)
    if form is Form.TABLE:
        show_record({name: value for name, value in found.items() if value}, form, names=_RESTORED)
    else:
        write_json(found)
    for line in _warnings(restored):
        say(line)
    if form is Form.TABLE:
        say(f"next: fleet --home {into} serve")


def _shares(file: Path, share_files: Sequence[Path]) -> list[Secret]:
    """Return the shares from files, or from the people who have them."""
    from fleet.ca import backup as archive  # noqa: PLC0415 - the whole CA, needed here
    from fleet.ca.shares import parse_share  # noqa: PLC0415 - as above

    if share_files:
        return [parse_share(_text(path)) for path in share_files]
    if not can_ask():
        raise UsageError("there is no terminal to ask for the shares on", hint="--share FILE, once for each")
    with open_input(file) as opened:
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
        "signing_again": [one.folder for one in restored.succession.resumed],
        "stopped_for_good": [one.folder for one in restored.succession.vacant],
        "waiting_again": [one.folder for one in restored.succession.waiting],
        "lists_behind": list(restored.lists_behind),
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
        f"warning: {action} happened {count} times since, and was not done again: look at each"
        for action, count in sorted(restored.strange.items())
    ]
    lines += _authority_warnings(restored)
    if restored.codes_lost:
        lines.append(f"warning: {restored.codes_lost} one-time codes work no more: make new ones")
    return lines


def _authority_warnings(restored: "Restored") -> list[str]:
    """Return what became of CAs whose successors, certificates or lists came after the backup."""
    lines: list[str] = []
    found = restored.succession
    for one in found.to_follow:
        lines.append(
            f"warning: {one.folder}, made {one.added_at:%Y-%m-%d}, signs again: the CA that followed it"
        )
        lines.append("warning: is gone with its key; devices that moved to that one need a new code each,")
        lines.append(f"warning: another must follow: fleet ca rollover prepare {one.folder}")
    for one in found.vacant:
        post = f"--domain {one.domain}" if one.domain else f"--purpose {one.purpose}"
        lines.append(f"warning: nobody gets a {one.purpose} certificate in {one.realm}: fleet ca add {post}")
    lines += [
        f"warning: {one.folder} waits for its certificate again: fleet ca import {one.folder} CHAIN"
        for one in found.waiting
    ]
    lines += [
        f"warning: the list of the root {name} does not name all it must: fleet ca crl {name}"
        for name in restored.lists_behind
    ]
    return lines


@click.command()
@options.home
@options.as_json
@click.pass_context
def drill(context: click.Context, home: Path, form: Form) -> None:
    """Try whether a backup brings this fleet back: restore one beside the home, start it, compare it.

    Nothing of it is left. Exit code 0: it does; 7: it does not, and the table says where.
    """
    from fleet.ra.keeping import drill as drills  # noqa: PLC0415 - the whole server, needed here only
    from fleet.service import utc_now  # noqa: PLC0415 - as above

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
    from fleet.service.parts import open_parts  # noqa: PLC0415 - as above

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


COMMANDS: tuple[click.Command, ...] = (restore, drill, unfreeze)
