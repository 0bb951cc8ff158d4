"""`fleet broker ...`: what enforces the fleet's decisions, and who is connected."""

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, items_of, show_list, show_record

_NAMES = {
    "driver": "broker",
    "running": "running",
    "host": "host",
    "mqtt_port": "port for devices",
    "mqtt_bootstrap_port": "port for enrollment",
    "sequence": "list number",
    "entries": "admitted certificates",
    "age_seconds": "list proven s ago",
    "sessions": "live sessions",
}
_SESSIONS = (
    Column(title="NAME", member="name", whole=True),
    Column(title="CERTIFICATE", member="serial", whole=True),
    Column(title="ADDRESS", member="address"),
    Column(title="SINCE", member="connected_at"),
    Column(title="BROKER", member="broker"),
)
_CUT_OFFS = (
    Column(title="SESSION", member="name", whole=True),
    Column(title="BROKER", member="broker"),
    Column(title="CUT OFF AFTER ms", member="cut_off_ms"),
)


@click.group()
def command() -> None:
    """The broker that admits what the store admits."""


@command.command()
@options.record
def show(home: Place, form: Form) -> None:
    """Show the broker, its listeners, and how fresh its list is."""
    show_record(with_client(home, lambda client: client.get("broker")), form, names=_NAMES)


@command.command()
@options.record
def apply(home: Place, form: Form) -> None:
    """Give the broker the whole list again, and its CRLs."""
    found = with_client(home, lambda client: client.post("broker", "apply", body={}))
    show_record(found, form, names=_NAMES)


@command.command()
@options.listing
def sessions(home: Place, form: Form) -> None:
    """List the live sessions."""

    def act(client: Client) -> None:
        found = client.items("broker", "sessions")
        show_list(found, form, columns=_SESSIONS, empty="nobody is connected")

    with_client(home, act)


@command.command()
@options.listing
@options.domain
@options.device
def kick(home: Place, form: Form, *, domain: str | None, device: str) -> None:
    """End the live sessions of a device. It may come back: fleet device suspend keeps it out."""
    name = ":".join(options.identity_of(home, device, domain))

    def act(client: Client) -> None:
        found = items_of(client.post("broker", "kick", body={"name": name})["items"])
        show_list(found, form, columns=_CUT_OFFS, empty=f"{name} was not connected")

    with_client(home, act)
