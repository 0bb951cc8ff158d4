"""`fleet group ...`: sets of devices under a name."""

import click

from fleet.cli import options, selecting
from fleet.cli.client import with_client
from fleet.cli.device_marks import act
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, show_list, show_record

_COLUMNS = (
    Column(title="GROUP", member="group", whole=True),
    Column(title="DEVICES", member="devices"),
    Column(title="QUERY", member="query"),
    Column(title="NOTE", member="note"),
)
_NAMES = {"group": "group", "devices": "devices", "query": "query", "note": "note", "made_at": "made"}


@click.group()
def command() -> None:
    """Groups: sets of devices whose members are put in, or found by a query.

    A query asks for them by group=NAME, wherever devices are selected.
    """


@command.command()
@options.record
@click.argument("name", metavar="NAME")
@selecting.query
@click.option("--note", metavar="TEXT", help="Whatever helps the next person.")
def add(home: Place, form: Form, *, name: str, query: str | None, note: str | None) -> None:
    """Add a group; with a query its members are whatever fits it at the time, else those that are put in."""
    given = {"name": name, "query": query, "note": note}
    body = {member: value for member, value in given.items() if value is not None}
    show_record(with_client(home, lambda client: client.post("groups", body=body)), form, names=_NAMES)


@command.command("list")
@options.listing
def list_groups(home: Place, form: Form) -> None:
    """List groups, by name."""
    with_client(
        home,
        lambda client: show_list(
            client.items("groups"), form, columns=_COLUMNS, empty="no groups; fleet group add makes one"
        ),
    )


@command.command()
@options.record
@click.argument("name", metavar="NAME")
def show(home: Place, form: Form, *, name: str) -> None:
    """Show a group; fleet device list --query group=NAME lists who is in it."""
    show_record(with_client(home, lambda client: client.get("groups", name)), form, names=_NAMES)


@command.command()
@options.record
@click.argument("name", metavar="NAME")
@selecting.many
def put(
    home: Place,
    form: Form,
    *,
    name: str,
    domain: str | None,
    devices: tuple[str, ...],
    query: str | None,
    yes: bool,
) -> None:
    """Put devices into a group; with a query, those that fit it now."""
    wanted = selecting.chosen(home, domain, devices, query, yes=yes)
    act(home, form, wanted, {"groups": [name]}, what=f"put into group {name}")


@command.command()
@options.record
@click.argument("name", metavar="NAME")
@selecting.many
def take(
    home: Place,
    form: Form,
    *,
    name: str,
    domain: str | None,
    devices: tuple[str, ...],
    query: str | None,
    yes: bool,
) -> None:
    """Take devices out of a group."""
    wanted = selecting.chosen(home, domain, devices, query, yes=yes)
    act(home, form, wanted, {"without_groups": [name]}, what=f"take out of group {name}")


@command.command()
@options.record
@click.argument("name", metavar="NAME")
def remove(home: Place, form: Form, *, name: str) -> None:
    """Forget a group that nobody is in."""
    show_record(
        with_client(home, lambda client: client.post("groups", name, "remove", body={})), form, names=_NAMES
    )
