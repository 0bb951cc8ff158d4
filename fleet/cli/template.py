"""`fleet template ...`: by which rules AWS SDK clients register their things."""

from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.handed import content_of
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, show_list, show_record, write_text

_COLUMNS = (
    Column(title="TEMPLATE", member="template", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="BATCHES", member="batches"),
    Column(title="DEVICE ID", member="device_id", whole=True),
    Column(title="ADDED", member="added_at"),
)
_NAMES = {
    "template": "template",
    "domain": "domain",
    "batches": "batches",
    "device_id": "device id",
    "parameters": "parameters",
    "added_at": "added",
    "added_by": "by",
}


@click.group()
def command() -> None:
    """Templates of things: what AWS SDK clients must tell to be registered, and what they are told."""


@command.command()
@options.record
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
def add(home: Place, form: Form, *, name: str, file: Path) -> None:
    """Hand in a template, TOML; - is standard input. It takes the place of one with its name.

    \b
      domain = "prod"
      batches = ["line3"]              whose claims may use it; without it, all of the domain
      device_id = "{SerialNumber}"     must be what the certificate names
      [parameters.SerialNumber]
      pattern = "SN[0-9]{6}"           a regular expression; required = false lets it be absent
      [configuration]
      region = "eu-1"                  told to whoever is registered
    """
    body = content_of(file)
    found = with_client(home, lambda client: client.post_text("templates", name, body=body))
    show_record(found, form, names=_NAMES)


@command.command("list")
@options.listing
def list_templates(home: Place, form: Form) -> None:
    """List the templates."""

    def act(client: Client) -> None:
        found = client.items("templates")
        show_list(found, form, columns=_COLUMNS, empty="no templates; fleet template add makes one")

    with_client(home, act)


@command.command()
@options.record
@click.argument("name")
def show(home: Place, form: Form, *, name: str) -> None:
    """Show a template as it was handed in."""
    found = with_client(home, lambda client: client.get("templates", name))
    if form is Form.TABLE:
        write_text(str(found["text"]).rstrip("\n"))
    else:
        show_record(found, form, names=_NAMES)


@command.command()
@options.record
@click.argument("name")
def remove(home: Place, form: Form, *, name: str) -> None:
    """Take a template away; what was registered by it stays."""
    found = with_client(home, lambda client: client.post("templates", name, "remove", body={}))
    show_record(found, form, names={"template": "removed"})
