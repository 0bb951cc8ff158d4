"""`fleet device ...`: the devices of a fleet, from registration to retirement."""

import sys
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Json, Members, items_of, say, show_list, show_record, write_text
from fleet.errors import BadInputError

_COLUMNS = (
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="STANDING", member="standing"),
    Column(title="BATCH", member="batch"),
    Column(title="CERTIFICATE ENDS", member="not_after"),
    Column(title="LAST SEEN", member="last_seen_at"),
)
_NAMES = {
    "device_id": "device",
    "domain": "domain",
    "standing": "standing",
    "alarm": "alarm",
    "kind": "kind",
    "batch": "batch",
    "hardware": "hardware",
    "note": "note",
    "registered_at": "registered",
    "last_seen_at": "last seen",
    "serial": "certificate",
    "not_after": "ends",
}
_CERTIFICATES = (
    Column(title="SERIAL", member="serial", whole=True),
    Column(title="STATE", member="state"),
    Column(title="ENDS", member="not_after"),
    Column(title="RENEWED FROM", member="parent", whole=True),
)
_STORY = (
    Column(title="AT", member="at", whole=True),
    Column(title="WHAT", member="action", whole=True),
    Column(title="BY", member="actor"),
    Column(title="CERTIFICATE", member="serial"),
    Column(title="DETAILS", member="details"),
)
_WAITING = (
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="SHORT CODE", member="short_code"),
    Column(title="ASKED", member="asked_at"),
    Column(title="ADDRESS", member="address"),
    Column(title="KEY", member="key_hash", whole=True),
)
_CODES = (
    Column(title="GRANT", member="code_id", whole=True),
    Column(title="KIND", member="kind"),
    Column(title="BY", member="source"),
    Column(title="USED", member="bound"),
    Column(title="EXPIRES", member="expires"),
    Column(title="CLOSED", member="closed_at"),
)


@click.group()
def command() -> None:
    """Devices: who they are, where they stand, what they may do.

    DEVICE is a device id, or DOMAIN:ID where the fleet has several domains.
    """


@command.command("list")
@options.listing
@options.domain
@options.limit(None)
@click.option("--standing", metavar="S", help="Only these: active, registered, suspended, alarmed, ...")
@click.option("--batch", metavar="NAME", help="Only devices of a batch.")
@click.option("--prefix", metavar="TEXT", help="Only ids that start so.")
@click.option("--waiting", is_flag=True, help="Requests that wait for approval, instead.")
def list_devices(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    limit: int | None,
    standing: str | None,
    batch: str | None,
    prefix: str | None,
    waiting: bool,
) -> None:
    """List devices, by domain and id."""

    def act(client: Client) -> None:
        if waiting:
            show_list(client.items("waiting"), form, columns=_WAITING, empty="nobody waits for approval")
            return
        found = client.items(
            "devices", domain=domain, standing=standing, batch=batch, prefix=prefix, limit=limit
        )
        show_list(found, form, columns=_COLUMNS, empty="no devices; fleet claim create lets one enroll")

    with_client(home, act)


@command.command()
@options.record
@options.domain
@options.device
def show(home: Place, form: Form, *, domain: str | None, device: str) -> None:
    """Show all that is on file about a device."""
    where = options.identity_of(home, device, domain)
    found = with_client(home, lambda client: client.get("devices", *where))
    show_record(found, form, names=_NAMES)
    if form is Form.TABLE:
        _section("certificates", found.get("certificates"), _CERTIFICATES)
        _section("codes and other grants", found.get("codes"), _CODES)
        _section("requests that wait for approval", found.get("waiting"), _WAITING)


@command.command()
@options.record
@options.domain
@options.device
def explain(home: Place, form: Form, *, domain: str | None, device: str) -> None:
    """Tell how a device came to stand where it does, and what to do about it."""
    where = options.identity_of(home, device, domain)
    found = with_client(home, lambda client: client.get("devices", *where, "explain"))
    if form is not Form.TABLE:
        show_record(found, form, names={})
        return
    show_list(items_of(found["story"]), form, columns=_STORY)
    _section("requests that wait for approval", found["waiting"], _WAITING)
    write_text(f"\n{found['device_id']}: {found['verdict']}")
    if found["advice"]:
        say(f"hint: {found['advice']}")


@command.command()
@options.record
@options.domain
@options.device
@click.option(
    "--kind", type=click.Choice(["agent", "plain"]), default="agent", help="plain: no device-agent."
)
@click.option("--batch", metavar="NAME", help="The batch it belongs to; a new name makes a new batch.")
@click.option("--hardware", metavar="TEXT", help="What it is, such as a model or a serial number.")
@click.option("--note", metavar="TEXT", help="Whatever helps the next person.")
def register(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    device: str,
    kind: str,
    batch: str | None,
    hardware: str | None,
    note: str | None,
) -> None:
    """Make a device known. It may enroll when something admits it: a code, a claim, a station."""
    place, name = options.identity_of(home, device, domain)
    body = {
        "domain": place,
        "device_id": name,
        "kind": kind,
        "batch": batch,
        "hardware": hardware,
        "note": note,
    }
    show_record(with_client(home, lambda client: client.post("devices", body=body)), form, names=_NAMES)


@command.command("import")
@options.record
@options.domain
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl"]), help="Else by the file's name.")
def import_devices(home: Place, form: Form, *, domain: str | None, file: Path, kind: str | None) -> None:
    """Register the devices of a list, CSV or JSON lines; - is standard input.

    The columns are device_id, and any of domain, kind, batch, hardware, note. All of the list is taken or
    nothing of it; devices that are known already stay as they are.
    """
    place = options.domain_of(home, domain)
    chosen = kind or ("jsonl" if file.suffix in {".jsonl", ".ndjson"} else "csv")
    body = _read(file)
    found = with_client(
        home, lambda client: client.post_text("devices", "import", body=body, domain=place, format=chosen)
    )
    show_record(found, form, names={"listed": "listed", "registered": "new"})


@command.command()
@options.record
@options.domain
@options.device
@options.reason
@click.option("--key", metavar="SHA256", help="Which key, where several ask in this name (see device show).")
def approve(
    home: Place, form: Form, *, domain: str | None, device: str, reason: str, key: str | None
) -> None:
    """Let a device in that waits for approval; compare its short code first."""
    _act(
        home, form, options.identity_of(home, device, domain), "approve", {"reason": reason, "key_hash": key}
    )


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def suspend(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Keep a device out for now; its sessions end, nothing is revoked."""
    _act(home, form, options.identity_of(home, device, domain), "suspend", {"reason": reason})


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def resume(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Let a device go on after a suspension, or after an alarm that was none."""
    _act(home, form, options.identity_of(home, device, domain), "resume", {"reason": reason})


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def retire(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Take a device out of service for good: all that it has is revoked."""
    _act(home, form, options.identity_of(home, device, domain), "retire", {"reason": reason})


def _act(home: Place, form: Form, where: tuple[str, str], verb: str, body: Members) -> None:
    given = {name: value for name, value in body.items() if value}
    found = with_client(home, lambda client: client.post("devices", *where, verb, body=given))
    show_record(found, form, names={"device_id": "device", "action": "done", "sessions": "sessions ended"})


def _section(title: str, items: Json, columns: tuple[Column, ...]) -> None:
    if found := items_of(items):
        write_text(f"\n{title}")
        show_list(found, Form.TABLE, columns=columns)


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInputError(f"{file} cannot be read: {(error.strerror or '').lower()}") from error
