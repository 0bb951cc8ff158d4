"""`fleet device ...`: the devices of a fleet, from registration to retirement."""

import sys
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.output import Column, Form, Members, say, show_list, show_record
from fleet.errors import BadInputError

_COLUMNS = (
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="STANDING", member="standing"),
    Column(title="BATCH", member="batch"),
    Column(title="CERTIFICATE", member="current", whole=True),
    Column(title="ENDS", member="not_after"),
    Column(title="LAST SEEN", member="last_seen_at"),
)
_NAMES = {
    "device_id": "device",
    "domain": "domain",
    "standing": "standing",
    "kind": "kind",
    "batch": "batch",
    "hardware": "hardware",
    "note": "note",
    "registered_at": "registered",
    "last_seen_at": "last seen",
    "current": "certificate",
    "not_after": "ends",
    "alarm": "alarm",
    "open_codes": "open codes",
    "waiting": "waiting",
}
_CERTIFICATES = (
    Column(title="SERIAL", member="serial", whole=True),
    Column(title="STATE", member="state"),
    Column(title="ENDS", member="not_after"),
    Column(title="PARENT", member="parent", whole=True),
)
_STORY = (
    Column(title="NUMBER", member="number"),
    Column(title="AT", member="at"),
    Column(title="ACTION", member="action"),
    Column(title="BY", member="actor"),
    Column(title="DETAILS", member="details"),
)


@click.group()
def command() -> None:
    """Devices: who they are, where they stand, what they may do."""


@command.command("list")
@options.listing
@options.domain
@options.limit(None)
@click.option("--standing", metavar="S", help="Only these: registered, active, waiting, suspended, alarm, retired.")
@click.option("--batch", metavar="NAME", help="Only devices of a batch.")
@click.option("--prefix", metavar="TEXT", help="Only ids that start so.")
def list_devices(
    home: Path,
    form: Form,
    *,
    domain: str | None,
    limit: int | None,
    standing: str | None,
    batch: str | None,
    prefix: str | None,
) -> None:
    """List devices, by domain and id."""
    with_client(
        home,
        lambda client: show_list(
            client.items("devices", domain=domain, standing=standing, batch=batch, prefix=prefix, limit=limit),
            form,
            columns=_COLUMNS,
            empty="no devices; fleet device register adds one, fleet claim create lets one enroll",
        ),
    )
