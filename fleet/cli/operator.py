"""`fleet operator ...`: who may act on the fleet, and how far."""

import os
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, show_record, write_json
from fleet.home import OperatorFiles
from fleet.model import Role

_COLUMNS = (
    Column(title="OPERATOR", member="operator", whole=True),
    Column(title="ROLE", member="role"),
    Column(title="ADDED", member="added_at"),
    Column(title="REMOVED", member="removed_at"),
)
_NAMES = {
    "operator": "operator",
    "role": "role",
    "certificate": "certificate",
    "key": "key",
    "p12": "for browsers",
    "p12_password": "its password",
}


@click.group()
def command() -> None:
    """Operators, and what each may do: viewer reads, operator acts, security revokes and lets in."""


@command.command()
@options.record
@click.argument("name")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), required=True, help="What he may do."
)
@options.out("operators")
def add(home: Place, form: Form, *, name: str, role: str, out: Path | None) -> None:
    """Add an operator; write the certificate and key as PEM, and as PKCS#12 for a browser."""
    folder = options.folder_of(home, out, "operators")
    made = with_client(home, lambda client: client.post("operators", body={"name": name, "role": role}))
    files = _write(folder, made)
    found: Members = {
        **made,
        "certificate": str(files.certificate),
        "key": str(files.key),
        "p12": str(files.p12),
        "p12_password": str(files.p12_password),
    }
    if form is Form.TABLE:
        show_record(found, form, names=_NAMES)
        say(f"next: hand the files to {made['operator']}, and delete them here")
    else:
        write_json(found)


@command.command("list")
@options.listing
def list_operators(home: Place, form: Form) -> None:
    """List the operators, removed ones too."""

    def act(client: Client) -> None:
        show_list(client.items("operators"), form, columns=_COLUMNS)

    with_client(home, act)


@command.command()
@options.record
@options.reason
@click.argument("name")
def remove(home: Place, form: Form, *, reason: str, name: str) -> None:
    """Remove an operator for good: the certificates are revoked, the next request is refused."""
    body = {"reason": reason} if reason else {}
    found = with_client(home, lambda client: client.post("operators", name, "remove", body=body))
    show_record(found, form, names={"operator": "removed", "revoked": "revoked"})


def _write(folder: Path, made: Members) -> OperatorFiles:
    from fleet.ra.operator_files import write_handed_out  # noqa: PLC0415 - the CA's parts, needed here only

    name = str(made["operator"])
    files = OperatorFiles(
        certificate=folder / f"{name}.crt",
        key=folder / f"{name}.key",
        p12=folder / f"{name}.p12",
        p12_password=folder / f"{name}.p12-password",
    )
    pems = (str(made["certificate"]), str(made["key"]))
    write_handed_out(files, pems, name=name, randomness=os.urandom)
    return files
