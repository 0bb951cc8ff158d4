"""`fleet station operator ...`: who works at a station, by a badge or PIN that nobody can read back."""

import getpass
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.handed import content_of
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, show_list, show_record
from fleet.errors import UsageError
from fleet.terminal import can_ask

_COLUMNS = (
    Column(title="OPERATOR", member="operator", whole=True),
    Column(title="STATION", member="station"),
    Column(title="ADDED", member="added_at"),
    Column(title="REMOVED", member="removed_at"),
)


@click.group("operator")
def command() -> None:
    """Line operators: who works at a station, and signs on there by a badge or PIN."""


@command.command()
@options.record
@click.argument("station")
@click.argument("name")
@click.option(
    "--badge-file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Its first line is the badge or PIN; - is standard input. Else it is asked for.",
)
def add(home: Place, form: Form, *, station: str, name: str, badge_file: Path | None) -> None:
    """Let somebody work at a station; the station knows at its next sync."""
    badge = _badge(badge_file)
    body = {"name": name, "badge": badge}
    found = with_client(home, lambda client: client.post("stations", station, "operators", body=body))
    show_record(found, form, names={"operator": "operator", "station": "station"})


@command.command("list")
@options.listing
@click.argument("station")
def list_operators(home: Place, form: Form, *, station: str) -> None:
    """List who works, or worked, at a station."""

    def act(client: Client) -> None:
        found = client.items("stations", station, "operators")
        empty = f"nobody; fleet station operator add {station} NAME"
        show_list(found, form, columns=_COLUMNS, empty=empty)

    with_client(home, act)


@command.command()
@options.record
@click.argument("station")
@click.argument("name")
def remove(home: Place, form: Form, *, station: str, name: str) -> None:
    """Let somebody work at a station no more, from its next sync on."""

    def act(client: Client) -> None:
        found = client.post("stations", station, "operators", name, "remove", body={})
        show_record(found, form, names={"operator": "removed", "station": "station"})

    with_client(home, act)


def _badge(file: Path | None) -> str:
    if file is not None:
        return content_of(file).decode("utf-8", "replace").partition("\n")[0].rstrip("\r")
    if not can_ask():
        raise UsageError("there is no terminal to ask for the badge on", hint="--badge-file FILE")
    return getpass.getpass("badge or PIN: ")
