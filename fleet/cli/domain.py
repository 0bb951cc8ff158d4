"""`fleet domain ...`: security domains. A leaf of one is worth nothing in another."""

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, show_list, show_record
from fleet.cli.table import Column

_COLUMNS = (
    Column(title="DOMAIN", member="domain", whole=True),
    Column(title="DEVICES", member="devices"),
    Column(title="SIGNED BY", member="issuing", whole=True),
)
_NAMES = {
    "domain": "domain",
    "devices": "devices",
    "issuing": "signed by",
    "anchors": "anchors",
}


@click.group()
def command() -> None:
    """Security domains: each has its own root, issuing CAs and profiles."""


@command.command("list")
@options.listing
def list_domains(home: Place, form: Form) -> None:
    """List the domains."""

    def act(client: Client) -> None:
        show_list(client.items("domains"), form, columns=_COLUMNS)

    with_client(home, act)


@command.command()
@options.record
@click.argument("name", metavar="D")
def show(home: Place, form: Form, *, name: str) -> None:
    """Show one; --json holds the roots that its devices trust."""
    found = with_client(home, lambda client: client.get("domains", options.domain_name(name)))
    show_record(found, form, names=_NAMES)
