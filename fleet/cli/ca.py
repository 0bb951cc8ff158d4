"""`fleet ca ...`: roots and issuing CAs. What needs a root's key is done on the machine that has it."""

import click

from fleet.cli import ca_add, ca_crl, ca_keep, ca_lose, ca_restore, ca_roll, options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, show_list, show_record
from fleet.cli.table import Column
from fleet.errors import NotFoundError

_COLUMNS = (
    Column(title="CA", member="name", whole=True),
    Column(title="STATE", member="state"),
    Column(title="KEY", member="key"),
    Column(title="LEAVES", member="leaves"),
    Column(title="ROOM", member="room"),
    Column(title="ENDS", member="not_after"),
    Column(title="LIST UNTIL", member="crl_until"),
)
_NAMES = {
    "name": "CA",
    "kind": "kind",
    "state": "state",
    "purpose": "signs for",
    "domain": "domain",
    "subject": "subject",
    "signed_by": "signed by",
    "issuer": "issuer id",
    "anchor": "anchor",
    "fingerprint": "fingerprint",
    "serial": "serial",
    "key_type": "key",
    "key": "key in",
    "signature": "signature",
    "path_length": "path length",
    "uses": "usages",
    "constraints": "names",
    "lists_at": "CRL at",
    "status_at": "status at",
    "leaves": "leaves",
    "room": "room",
    "not_before": "begins",
    "not_after": "ends",
    "crl_until": "list until",
    "added_at": "added",
    "changed_at": "changed",
}

name_argument = click.argument("name", metavar="CA")


@click.group()
def command() -> None:
    """Roots and issuing CAs: which there are, how full they are, which sign."""


@command.command("list")
@options.listing
def list_authorities(home: Place, form: Form) -> None:
    """List the roots and issuing CAs, each by its name."""

    def act(client: Client) -> None:
        show_list(client.items("authorities"), form, columns=_COLUMNS)

    with_client(home, act)


@command.command()
@options.record
@name_argument
def show(home: Place, form: Form, *, name: str) -> None:
    """Show one, by its name or issuer id; --json holds its certificate chain."""
    found = with_client(home, lambda client: client.get("authorities", issuer_of(client, name)))
    show_record(found, form, names=_NAMES)


def issuer_of(client: Client, name: str) -> str:
    """Return the issuer id of a CA that was named by its name or its id.

    Raises:
        NotFoundError: there is none.
    """
    return str(found(client, name)["issuer"])


def found(client: Client, name: str) -> Members:
    """Return a CA by its name or issuer id. Raises `NotFoundError`."""
    for each in client.items("authorities"):
        if name in {each["name"], each["issuer"]}:
            return each
    raise NotFoundError(f"there is no CA {name}", hint="fleet ca list")


for each in (
    *ca_add.COMMANDS,
    *ca_crl.COMMANDS,
    *ca_keep.COMMANDS,
    *ca_lose.COMMANDS,
    *ca_restore.COMMANDS,
    *ca_roll.COMMANDS,
):
    command.add_command(each)
