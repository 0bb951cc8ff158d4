"""`fleet audit ...`: who did what, when and why, and the proof that nobody has changed it since."""

import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TypeVar

import click

from fleet.cli import options
from fleet.cli.audit_archive import archive, archives
from fleet.cli.audit_evidence import Evidence, head, prove, show_evidence, verifier
from fleet.cli.audit_witness import checkpoint, witnesses
from fleet.cli.client import Client, with_client
from fleet.cli.following import events, require_served, show_events
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, items_of, say, show_list, write_json, write_text
from fleet.errors import ExitCode, UsageError

_Function = TypeVar("_Function", bound=Callable[..., None])

_COLUMNS = (
    Column(title="NUMBER", member="number"),
    Column(title="AT", member="at", whole=True),
    Column(title="ACTION", member="action", whole=True),
    Column(title="BY", member="actor"),
    Column(title="DEVICE", member="device_id"),
    Column(title="DETAILS", member="details"),
)


@click.group()
def command() -> None:
    """The audit trail. It is appended to, never changed; every commit signs the whole of it."""


@command.command()
@options.listing
@click.option("-n", "--number", "count", type=click.IntRange(1, 1000), default=20, help="How many [20].")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
def tail(home: Place, form: Form, *, count: int, follow: bool) -> None:
    """Show the newest entries, the last one last."""
    if follow and form is Form.JSON:
        raise UsageError("a list without an end is no JSON array", hint="--follow --jsonl")

    def act(client: Client) -> None:
        newest = items_of(client.get("audit", "tail", count=count)["items"])
        if follow:
            show_events(chain(newest, events(client, after=_number(newest))), form)
        else:
            show_list(newest, form, columns=_COLUMNS)

    if follow:
        require_served(home)
    with_client(home, act)


def _number(entries: list[Members]) -> int:
    number = entries[-1]["number"] if entries else -1
    assert isinstance(number, int)  # noqa: S101 - our own server's answer
    return number


@command.command()
@options.listing
@options.domain
@options.limit(None)
@click.option("--device", metavar="DEVICE", help="Only about a device.")
@click.option("--serial", metavar="SERIAL", help="Only about a certificate.")
@click.option("--actor", metavar="WHO", help="Only by somebody, such as operator:local.")
@click.option("--action", metavar="WHAT", help="Only one kind, such as certificate.revoked, or device.*")
def search(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    limit: int | None,
    device: str | None,
    serial: str | None,
    actor: str | None,
    action: str | None,
) -> None:
    """Find entries, oldest first."""
    device_id = None
    if device is not None:
        domain, device_id = options.identity_of(home, device, domain)
    number = None if serial is None else options.serial(serial)

    def act(client: Client) -> None:
        found = client.items(
            "audit",
            limit=limit,
            domain=domain,
            device_id=device_id,
            serial=number,
            actor=actor,
            action=action,
        )
        show_list(found, form, columns=_COLUMNS, empty="nothing fits")

    with_client(home, act)


def _file(name: str, what: str) -> Callable[[_Function], _Function]:
    return click.option(name, type=click.Path(path_type=Path), metavar="FILE", help=what)


@command.command()
@options.record
@click.option("--records", is_flag=True, help="Compare the records of all devices with the trail, too.")
@_file("--proof", "Check this proof, off line, instead.")
@_file("--trail", "Check what fleet audit export printed, off line, instead.")
@_file("--head", "For these: a signed head that you kept.")
@_file("--key", "For these: the fleet's public audit key.")
@click.pass_context
def verify(
    context: click.Context,
    home: Place,
    form: Form,
    *,
    records: bool,
    proof: Path | None,
    trail: Path | None,
    head: Path | None,
    key: Path | None,
) -> None:
    """Check every entry against the signed heads. Exit code 0: whole; 7: something was changed.

    With --records, also that each device's record is what the trail tells of it: states, keys, serials,
    fingerprints. It reads the whole trail, so it takes a while in a large fleet.
    """
    if proof or trail or head or key:
        show_evidence(form, Evidence(proof=proof, trail=trail, head=head, key=key))
        return
    found = with_client(home, lambda client: client.get("audit", "verify"))
    beside = with_client(home, lambda client: client.get("audit", "records")) if records else None
    _show_verdict(found if beside is None else {**found, "records": beside}, form)
    differences = items_of(beside["differences"]) if beside else []
    if form is Form.TABLE and beside:
        _show_differences(beside, differences)
    is_whole = not items_of(found["findings"]) and not differences
    context.exit(ExitCode.DONE if is_whole else ExitCode.NEEDS_ATTENTION)


def _show_verdict(found: Members, form: Form) -> None:
    findings = items_of(found["findings"])
    if form is not Form.TABLE:
        write_json(found)
    elif findings:
        say(f"error: the audit trail was changed: {len(findings)} findings in {found['size']} entries")
        for finding in findings:
            write_text(f"{_where(finding)}: {finding['text']}")
        say("hint: compare with a copy kept elsewhere, and find out who could write to the store")
    else:
        gone = f", {found['archived']} of them archived" if found["archived"] else ""
        write_text(f"whole: {found['size']} entries{gone}, newest signed head {found['root']}")


def _show_differences(beside: Members, differences: list[Members]) -> None:
    if not differences:
        write_text(f"records: {beside['devices']} devices are what the trail tells")
        return
    say(f"error: {len(differences)} devices are not what the trail tells")
    for one in differences:
        what = one["what"]
        write_text(f"{one['name']}: {', '.join(map(str, what)) if isinstance(what, list) else what}")
    say("hint: somebody wrote the database beside the server: see who could, and restore it from a backup")


def _where(finding: Members) -> str:
    first, last = finding["first"], finding["last"]
    return f"entry {first}" if first == last else f"entries {first} to {last}"


@command.command()
@options.place
@click.option("--after", type=click.IntRange(0), metavar="NUMBER", help="Only what follows this entry.")
@click.option("--syslog", "route", flag_value="syslog", default="export", help="Print syslog (RFC 5424).")
def export(home: Place, *, after: int | None, route: str) -> None:
    """Print the trail as JSON lines, each entry with its hash; the last line is the signed head over all.

    Keep it on another machine: what it prints brings a restored backup up to date. Syslog messages are for
    programs that search the logs of many machines, and prove nothing by themselves.
    """

    def act(client: Client) -> None:
        for line in client.lines("audit", route, after=after):
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    with_client(home, act)


for further in (head, prove, verifier, archive, archives, checkpoint, witnesses):
    command.add_command(further)
