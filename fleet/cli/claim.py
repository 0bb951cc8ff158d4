"""`fleet claim ...`: what lets a device enroll that nobody has seen yet."""

from collections.abc import Iterator
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import (
    Column,
    Form,
    Json,
    Members,
    items_of,
    say,
    show_list,
    show_record,
    write_json,
    write_text,
)
from fleet.errors import UsageError
from fleet.files import PUBLIC_MODE, make_folder, write_file

_CODES_AT_ONCE = 50
_NEW = (
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="CODE", member="code", whole=True),
    Column(title="EXPIRES", member="expires", whole=True),
)
_CODES = (
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="KIND", member="kind"),
    Column(title="USED", member="bound"),
    Column(title="EXPIRES", member="expires"),
    Column(title="CLOSED", member="closed_at"),
    Column(title="CODE ID", member="code_id", whole=True),
)
_BATCHES = (
    Column(title="BATCH", member="batch", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="USES", member="uses"),
    Column(title="ALLOWED", member="uses_allowed"),
    Column(title="PENDING", member="pending"),
    Column(title="EXPIRES", member="expires"),
    Column(title="CLOSED", member="closed_at"),
)

_devices = click.option("--device", "devices", multiple=True, metavar="ID", help="A device; may be repeated.")
_days = click.option("--days", type=click.IntRange(1, 3650), metavar="N", help="How long it is good for.")


@click.group()
def command() -> None:
    """What lets a device enroll: a one-time code for each, or a claim certificate for a batch."""


@command.command()
@options.listing
@options.domain
@_devices
@_days
@options.reason
@click.option(
    "--key", metavar="SHA256", help="Bind the code to this key: SHA-256 of its SubjectPublicKeyInfo."
)
@click.option(
    "--replace", is_flag=True, help="Revoke all that the device has: after an alarm, or a wiped unit."
)
@click.option("--code-only", is_flag=True, help="Print the codes and nothing else, to be piped.")
@click.option("--batch", metavar="NAME", help="A batch, with --count and --certificate.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="How many devices the batch may enroll.")
@click.option("--certificate", is_flag=True, help="Make a claim certificate for the batch, and its key.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Where to write it [HOME/claims]."
)
def create(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    devices: tuple[str, ...],
    days: int | None,
    reason: str,
    key: str | None,
    replace: bool,
    code_only: bool,
    batch: str | None,
    count: int | None,
    certificate: bool,
    out: Path | None,
) -> None:
    """Make a code for each device, or a claim certificate for a batch.

    A code is shown this once, admits one key, and is kept as a hash. Hand it over, or pipe it:

    \b
      fleet claim create --device d1 --code-only | device-agent --state d1 enroll --code-file - ...
    """
    place = options.domain_of(home, domain)
    if batch is not None and certificate and not devices:
        order = {"domain": place, "batch": batch, "uses": _count(count), **_given(days=days)}
        _create_batch(home, form, order, out)
    elif devices and batch is None and not certificate:
        order = {"domain": place, **_given(days=days, reason=reason, key_hash=key, replace=replace)}
        _create_codes(home, form, order, tuple(map(options.device_id, devices)), code_only=code_only)
    else:
        raise UsageError(
            "name devices, or a batch with its count",
            hint="--device ID, or --batch NAME --count N --certificate",
        )


@command.command("list")
@options.listing
@options.domain
@options.limit(None)
@click.option("--device", metavar="DEVICE", help="Only codes of a device.")
@click.option("--batches", is_flag=True, help="Batches with their claim certificates, instead of codes.")
def list_claims(
    home: Place, form: Form, *, domain: str | None, limit: int | None, device: str | None, batches: bool
) -> None:
    """List codes and other grants, or batches."""
    device_id = None
    if device is not None:
        domain, device_id = options.identity_of(home, device, domain)

    def act(client: Client) -> None:
        if batches:
            show_list(client.items("claims", "batches", domain=domain), form, columns=_BATCHES)
        else:
            found = client.items("claims", "codes", domain=domain, device_id=device_id, limit=limit)
            show_list(found, form, columns=_CODES, empty="no codes; fleet claim create makes one")

    with_client(home, act)


@command.command()
@options.record
@options.domain
@options.reason
@click.option("--code", metavar="ID", help="Close a code, by its id from fleet claim list.")
@click.option("--batch", metavar="NAME", help="Close a batch: its claim certificate is revoked at once.")
def revoke(
    home: Place, form: Form, *, domain: str | None, reason: str, code: str | None, batch: str | None
) -> None:
    """Close a code or a whole batch. Devices that have enrolled stay: fleet cert revoke ends them."""
    if code is not None and batch is None:
        body = {"code_id": code, **_given(reason=reason)}
        found = with_client(home, lambda client: client.post("claims", "codes", "revoke", body=body))
        show_record(found, form, names={"device_id": "device", "code_id": "code", "closed_at": "closed"})
    elif batch is not None and code is None:
        order = {"domain": options.domain_of(home, domain), "batch": batch, **_given(reason=reason)}
        found = with_client(home, lambda client: client.post("claims", "batches", "revoke", body=order))
        names = {"batch": "batch", "certificates": "revoked", "sessions": "sessions ended"}
        show_record(found, form, names=names)
    else:
        raise UsageError("name a code or a batch", hint="--code ID or --batch NAME")


@command.command()
@options.place
@options.domain
@_devices
@_days
@click.option("--batch", metavar="NAME", help="All devices that are registered for a batch.")
@click.option("--html", is_flag=True, help="A page to print and cut, instead of text.")
def sheet(
    home: Place,
    *,
    domain: str | None,
    devices: tuple[str, ...],
    days: int | None,
    batch: str | None,
    html: bool,
) -> None:
    """Make codes and print them as a sheet for people. Whoever holds the sheet holds the codes."""
    body: Members = {
        "domain": options.domain_of(home, domain),
        **_given(devices=[options.device_id(each) for each in devices], batch=batch, days=days, html=html),
    }
    write_text(with_client(home, lambda client: client.post_for_text("claims", "sheet", body=body)))


def _create_codes(home: Place, form: Form, order: Members, ids: tuple[str, ...], *, code_only: bool) -> None:
    def made(client: Client) -> Iterator[Members]:
        for start in range(0, len(ids), _CODES_AT_ONCE):
            part = {**order, "devices": ids[start : start + _CODES_AT_ONCE]}
            yield from items_of(client.post("claims", "codes", body=part)["items"])

    def act(client: Client) -> None:
        if code_only:
            for new in made(client):
                write_text(str(new["code"]))
        else:
            show_list(made(client), form, columns=_NEW)

    with_client(home, act)


def _create_batch(home: Place, form: Form, order: Members, out: Path | None) -> None:
    folder = options.folder_of(home, out, "claims", str(order["domain"]))
    make_folder(folder)
    made = with_client(home, lambda client: client.post("claims", "batches", body=order))
    certificate, key = folder / f"{made['batch']}.crt", folder / f"{made['batch']}.key"
    write_file(key, str(made["key"]).encode())
    write_file(certificate, str(made["certificate"]).encode(), mode=PUBLIC_MODE)
    found: Members = {**made, "certificate": str(certificate), "key": str(key)}
    if form is Form.TABLE:
        show_record(found, form, names={"certificate": "certificate", "key": "key", "expires": "expires"})
        say("it enrolls the devices that are registered for the batch; others wait for fleet device approve")
    else:
        write_json([found])


def _count(count: int | None) -> int:
    if count is None:
        raise UsageError("say how many devices the batch may enroll", hint="--count N")
    return count


def _given(**members: Json) -> dict[str, Json]:
    return {name: value for name, value in members.items() if value}
