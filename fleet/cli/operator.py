"""`fleet operator ...`: who may act on the fleet, and how far."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.operator_return import deny, pleas, recover, vouch
from fleet.cli.operator_totp import totp
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, show_record, write_json
from fleet.cli.remote import Remote
from fleet.errors import NotFoundError, UsageError
from fleet.home import KeyPairFiles, OperatorFiles, open_home
from fleet.model import Role
from fleet.pair_files import Content

if TYPE_CHECKING:
    from fleet.cli.bearer import Renewed

_COLUMNS = (
    Column(title="OPERATOR", member="operator", whole=True),
    Column(title="ROLE", member="role"),
    Column(title="ADDED", member="added_at"),
    Column(title="REMOVED", member="removed_at"),
)
_RENEWED = {
    "operator": "operator",
    "serial": "serial",
    "not_after": "good until",
    "certificate": "certificate",
    "key": "key",
}
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


for _below in (totp, recover, pleas, vouch, deny):
    command.add_command(_below)


@command.command()
@options.record
@click.argument("name")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), required=True, help="What he may do."
)
@options.out("operators")
@click.option(
    "--compat",
    type=click.Choice(("modern", "legacy")),
    default="modern",
    help="Who must read the PKCS#12 file: legacy is weak (3DES, SHA-1), for what can read nothing else.",
)
def add(home: Place, form: Form, *, name: str, role: str, out: Path | None, compat: str) -> None:
    """Add an operator; write the certificate and key as PEM, and as PKCS#12 for a browser."""
    folder = options.folder_of(home, out, "operators")
    made = with_client(home, lambda client: client.post("operators", body={"name": name, "role": role}))
    files = _write(folder, made, compat)
    found: Members = {
        **made,
        "certificate": str(files.certificate),
        "key": str(files.key),
        "p12": str(files.p12),
        "p12_password": str(files.p12_password),
    }
    if form is Form.TABLE:
        show_record(found, form, names=_NAMES)
        if compat == "legacy":
            say(f"warning: {files.p12} is weak: whoever copies it may find the key in it")
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


@command.command()
@options.record
@click.argument("name", required=False)
def renew(home: Place, form: Form, *, name: str | None) -> None:
    """Renew your certificate: a new key is made here, the files are replaced, the earlier one ends.

    With --server it is the certificate that you connect with. In a home it is one of operators/, and copies
    of the earlier one stay good until their end.
    """
    from fleet.cli import bearer  # noqa: PLC0415 - the cryptography, needed here only

    who, files = _bearer(home, name)
    pair = KeyPairFiles(certificate=files.certificate, key=files.key)

    def beside_of(renewed: bearer.Renewed) -> dict[Path, Content]:
        return _for_browsers(files, renewed, who)

    made = with_client(
        home, lambda client: bearer.renew(client, "operators", who, files=pair, beside_of=beside_of)
    )
    if isinstance(home, Remote):
        # Shown by the new certificate: it works, so that the one before is not needed any more.
        Client(home).post("operators", who, "renewed", body={"serial": made.serial})
    found: Members = {
        "operator": who,
        "serial": made.serial,
        "not_after": made.not_after,
        "certificate": str(files.certificate),
        "key": str(files.key),
    }
    show_record(found, form, names=_RENEWED)


def _bearer(home: Place, name: str | None) -> tuple[str, OperatorFiles]:
    """Return whose certificate is to be renewed, and where his files are."""
    if isinstance(home, Remote):
        found = str(Client(home).get("whoami")["operator"])
        if name not in {None, found}:
            raise UsageError(
                f"you are {found}, and renew nobody else's certificate", hint="leave the name out"
            )
        return found, _files(home.certificate, home.key)
    place = open_home(home)
    known = sorted(path.stem for path in place.operators.glob("*.crt"))
    if name is None and len(known) != 1:
        raise UsageError(
            "several operators have files here", hint=f"fleet operator renew {known[0] if known else 'NAME'}"
        )
    chosen = name or known[0]
    if chosen not in known:
        raise NotFoundError(
            f"no operator {chosen} has files in {place.operators}", hint="fleet operator list"
        )
    return chosen, place.operator(chosen)


def _files(certificate: Path, key: Path) -> OperatorFiles:
    """Return an operator's files; the one for browsers stands beside the certificate, if he has it there."""
    stem = certificate.with_suffix("")
    return OperatorFiles(
        certificate=certificate,
        key=key,
        p12=stem.with_suffix(".p12"),
        p12_password=stem.with_suffix(".p12-password"),
    )


def _for_browsers(files: OperatorFiles, renewed: "Renewed", name: str) -> dict[Path, Content]:
    """Return what a browser's file and its password are to hold, if they are there."""
    from fleet.ra.people.operator_files import operator_content  # noqa: PLC0415 - as above

    if not files.p12.exists():
        return {}
    pems = (renewed.certificate_pem, renewed.key_pem)
    content = operator_content(files, pems, name=name, randomness=os.urandom)
    return {path: content[path] for path in (files.p12, files.p12_password)}


def _write(folder: Path, made: Members, compat: str) -> OperatorFiles:
    from fleet.ca.pkcs12 import Compat  # noqa: PLC0415 - the CA's parts, needed here only
    from fleet.ra.people.operator_files import write_handed_out  # noqa: PLC0415 - as above

    name = str(made["operator"])
    files = OperatorFiles(
        certificate=folder / f"{name}.crt",
        key=folder / f"{name}.key",
        p12=folder / f"{name}.p12",
        p12_password=folder / f"{name}.p12-password",
    )
    pems = (str(made["certificate"]), str(made["key"]))
    write_handed_out(files, pems, name=name, randomness=os.urandom, compat=Compat(compat))
    return files
