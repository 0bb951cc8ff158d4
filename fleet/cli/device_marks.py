"""`fleet device set|tag|untag|export`: what operators know of devices, said of one or of many."""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from fleet.cli import options, selecting
from fleet.cli.client import Client, with_client
from fleet.cli.handed import content_of
from fleet.cli.options import Place
from fleet.cli.output import Form, Json, Members, cell, show_list, show_record
from fleet.errors import UsageError

DONE = {"found": "devices", "changed": "changed"}
_EXPORTED = ("device_id", "domain", "standing", "batch", "model", "owner", "tags", "groups", "not_after")


@click.command("set")
@options.record
@selecting.many
@click.option("--csv", "table", type=click.Path(path_type=Path, allow_dash=True), help="A device a line.")
@click.option("--model", metavar="TEXT", help="What kind of device it is.")
@click.option("--owner", metavar="NAME", help="Whose it is: an owner of fleet owner list.")
@click.option(
    "--attr", "attributes", metavar="NAME=VALUE", multiple=True, help="Anything else; empty: nothing."
)
def set_marks(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    devices: tuple[str, ...],
    query: str | None,
    yes: bool,
    table: Path | None,
    model: str | None,
    owner: str | None,
    attributes: tuple[str, ...],
) -> None:
    """Say what a device is, whose it is, and whatever else is known of it.

    An empty text takes it back: --owner "". A table has the column device_id, and any of domain, model,
    owner, tags, groups (several apart by spaces), attr.NAME; an empty cell says nothing.
    """
    if table is not None:
        if devices or query is not None:
            raise UsageError("a table names the devices itself", hint="leave DEVICE and --query out")
        _set_table(home, form, domain, table)
        return
    given: dict[str, Json] = {"attributes": dict(map(_pair, attributes))} if attributes else {}
    given |= {name: value for name, value in (("model", model), ("owner", owner)) if value is not None}
    if not given:
        raise UsageError("nothing is said of a device", hint="--model, --owner or --attr NAME=VALUE")
    wanted = selecting.chosen(home, domain, devices, query, yes=yes)
    told = ", ".join(f"{name} {cell(value)}" for name, value in given.items())
    act(home, form, wanted, given, what=f"set {told}")


def _set_table(home: Place, form: Form, domain: str | None, table: Path) -> None:
    body, place = content_of(table), options.domain_of(home, domain)

    def hand_in(client: Client) -> Members:
        return client.post_text("devices", "marks", "import", body=body, domain=place)

    show_record(with_client(home, hand_in), form, names=DONE)


@click.command()
@options.record
@click.argument("tag", metavar="TAG")
@selecting.many
def tag(
    home: Place,
    form: Form,
    *,
    tag: str,
    domain: str | None,
    devices: tuple[str, ...],
    query: str | None,
    yes: bool,
) -> None:
    """Stick a tag on devices, to find them by: --query tag=TAG."""
    wanted = selecting.chosen(home, domain, devices, query, yes=yes)
    act(home, form, wanted, {"tags": [tag]}, what=f"tag {tag}")


@click.command()
@options.record
@click.argument("tag", metavar="TAG")
@selecting.many
def untag(
    home: Place,
    form: Form,
    *,
    tag: str,
    domain: str | None,
    devices: tuple[str, ...],
    query: str | None,
    yes: bool,
) -> None:
    """Take a tag off devices."""
    wanted = selecting.chosen(home, domain, devices, query, yes=yes)
    act(home, form, wanted, {"without_tags": [tag]}, what=f"untag {tag}")


@click.command()
@options.listing
@options.domain
@selecting.query
def export(home: Place, form: Form, *, domain: str | None, query: str | None) -> None:
    """Write devices as CSV, which fleet device set --csv reads again."""

    def write(client: Client) -> None:
        found = client.items("devices", domain=domain, query=query)
        if form is Form.TABLE:
            _write_csv(found)
        else:
            show_list(found, form, columns=())

    with_client(home, write)


def act(home: Place, form: Form, devices: selecting.Chosen, marks: Members, *, what: str) -> None:
    """Say something of devices, and show what came of it."""
    show_record(
        with_client(home, lambda client: selecting.mark(client, devices, marks, what=what)), form, names=DONE
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--attr {text[:64]!a} has no =", hint="--attr site=berlin")
    return name, value


def _write_csv(devices: Iterable[Members]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(_EXPORTED)
    for device in devices:
        table.writerow([_flat(device[name]) for name in _EXPORTED])


def _flat(value: Json) -> str:
    """Return a value as a cell; what a spreadsheet would run as a formula is no formula."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text


COMMANDS: tuple[click.Command, ...] = (set_marks, tag, untag, export)
