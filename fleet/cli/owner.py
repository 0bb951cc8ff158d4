"""`fleet owner ...`: whom devices belong to, and where they are told of them."""

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, show_list, show_record
from fleet.errors import UsageError

_COLUMNS = (
    Column(title="OWNER", member="owner", whole=True),
    Column(title="ABOUT", member="about"),
    Column(title="CONTACTS", member="contacts"),
    Column(title="REMOVED", member="removed_at"),
)
_NAMES = {
    "owner": "owner",
    "about": "about",
    "contacts": "contacts",
    "added_at": "added",
    "removed_at": "removed",
}


@click.group()
def command() -> None:
    """Owners: whom devices belong to. Their contacts are told of what concerns their devices.

    A device is given to an owner by fleet device set --owner.
    """


@command.command()
@options.record
@click.argument("name", metavar="NAME")
@click.option("--about", metavar="TEXT", default="", help="Who that is.")
@click.option(
    "--contact", "contacts", metavar="MAIL", multiple=True, help="A mail address; several, if need be."
)
@click.option("--no-contacts", is_flag=True, help="Take back all addresses of an owner who is known.")
def add(
    home: Place, form: Form, *, name: str, about: str, contacts: tuple[str, ...], no_contacts: bool
) -> None:
    """Add an owner, or change of one who is known what is said here; the contacts named replace his."""
    if contacts and no_contacts:
        raise UsageError("--contact and --no-contacts exclude each other", hint="say one of the two")
    said = {"contacts": list(contacts)} if contacts or no_contacts else {}
    body = {"name": name, **said, **({"about": about} if about else {})}
    show_record(with_client(home, lambda client: client.post("owners", body=body)), form, names=_NAMES)


@command.command("list")
@options.listing
def list_owners(home: Place, form: Form) -> None:
    """List owners, by name."""
    with_client(
        home,
        lambda client: show_list(
            client.items("owners"), form, columns=_COLUMNS, empty="no owners; fleet owner add names one"
        ),
    )


@command.command()
@options.record
@click.argument("name", metavar="NAME")
def remove(home: Place, form: Form, *, name: str) -> None:
    """Give no more devices to an owner who has none."""
    show_record(
        with_client(home, lambda client: client.post("owners", name, "remove", body={})), form, names=_NAMES
    )
