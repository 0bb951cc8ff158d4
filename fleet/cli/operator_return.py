"""`fleet operator recover, pleas, vouch, deny`: the way back of an operator without a certificate."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.codes import code_of
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, show_record, write_json
from fleet.cli.remote import Server
from fleet.errors import BadInputError, FleetError, RefusedError
from fleet.files import make_folder, write_file
from fleet.home import OperatorFiles, open_home

if TYPE_CHECKING:
    from fleet.cli.bearer import NewKey

_COLUMNS = (
    Column(title="PLEA", member="readmission", whole=True),
    Column(title="OPERATOR", member="operator"),
    Column(title="STATE", member="state"),
    Column(title="ASKED", member="asked_at", whole=True),
    Column(title="FROM", member="address"),
    Column(title="PROVED", member="proved"),
    Column(title="VOICES", member="voices"),
)
_PLEA = {
    "operator": "operator",
    "state": "state",
    "spoken_code": "code to read out",
    "needs": "needs",
}
_READMITTED = {"operator": "operator", "serial": "serial", "certificate": "certificate", "key": "key"}
_NAMES = {
    "readmission": "plea",
    "operator": "operator",
    "state": "state",
    "proved": "proved",
    "voices": "voices",
    "serial": "serial",
}


def _anybody(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | Server:
    """Return where the server is, also for somebody who has nothing to show there."""
    root = context.find_root()
    if value is None and isinstance(root.obj, Server):
        return Server(server=root.obj.server, trust=root.obj.trust)
    return options.place_of(context, parameter, value)


@click.command()
@click.option(
    "--home",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR",
    callback=_anybody,
    help="The fleet home [FLEET_HOME, else ~/.fleet].",
)
@options.as_json
@options.out("operators")
@click.option(
    "--totp-file",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Holds a code of your second factor, needed where you have one; - is standard input.",
)
@click.argument("name")
def recover(home: Path | Server, form: Form, *, out: Path | None, totp_file: Path | None, name: str) -> None:
    """Ask for a new certificate as NAME, when yours was lost or has ended.

    A new key is made here and stays here. Read the code that is shown to two other operators of the role
    security, over the telephone or face to face; when both have vouched, run this again. With --server it
    needs --trust, and no certificate. What you had is revoked.
    """
    folder = _folder(home, out)
    key = _key(folder, name)
    body = {"name": name, "csr": key.csr}
    if totp_file is not None:
        body["totp"] = code_of(totp_file)
    found = with_client(home, lambda client: client.post("readmissions", body=body))
    if found["certificate"] is not None:
        found = _taken(folder, name, key, found)
    if found["state"] in {"denied", "expired"}:
        _waiting_key(folder, name).unlink()
        raise RefusedError(f"the plea of {name} is {found['state']}", hint=f"fleet operator recover {name}")
    if form is not Form.TABLE:
        write_json(found)
    elif found["state"] == "done":
        show_record(found, form, names=_READMITTED)
    else:
        show_record(found, form, names=_PLEA)
        say(_next(found))


@click.command()
@options.listing
def pleas(home: Place, form: Form) -> None:
    """List who asks to be let in again; the code of each he tells you himself."""

    def act(client: Client) -> None:
        show_list(client.items("readmissions"), form, columns=_COLUMNS, empty="nobody asks")

    with_client(home, act)


@click.command()
@options.record
@click.argument("name")
@click.argument("code")
def vouch(home: Place, form: Form, *, name: str, code: str) -> None:
    """Vouch for operator NAME, by the CODE that he read out to you, over another way than this one."""
    body = {"name": name, "spoken_code": code}
    found = with_client(home, lambda client: client.post("readmissions", "vouch", body=body))
    show_record(found, form, names=_NAMES)


@click.command()
@options.record
@options.reason
@click.argument("plea")
def deny(home: Place, form: Form, *, reason: str, plea: str) -> None:
    """End a plea that nobody stands behind: its key is never certified."""
    body = {"reason": reason} if reason else {}
    found = with_client(home, lambda client: client.post("readmissions", plea, "deny", body=body))
    show_record(found, form, names=_NAMES)


def _folder(home: Path | Server, out: Path | None) -> Path:
    if out is not None:
        return out
    return Path.cwd() if isinstance(home, Server) else open_home(home).operators


def _waiting_key(folder: Path, name: str) -> Path:
    return folder / f"{name}.waiting-key"


def _key(folder: Path, name: str) -> "NewKey":
    """Return the key of the plea that is under way, or a new one, on disk before anybody hears of it."""
    from fleet.cli import bearer  # noqa: PLC0415 - the cryptography, needed here only

    path = _waiting_key(folder, options.domain_name(name))
    try:
        return bearer.kept_key(name, path.read_text())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"{path} holds no key that can be read", hint="remove it, and ask anew"
        ) from error
    key = bearer.made_here(name)
    make_folder(folder)
    write_file(path, key.kept.encode())
    return key


def _taken(folder: Path, name: str, key: "NewKey", found: Members) -> Members:
    """Put the new certificate and its key in place of the old ones; return what to show."""
    from cryptography import x509  # noqa: PLC0415 - the cryptography, needed here only

    from fleet.ra.people.operator_files import write_handed_out  # noqa: PLC0415 - as above

    certificate = str(found["certificate"])
    if x509.load_pem_x509_certificate(certificate.encode()).public_key() != key.public_key:
        raise FleetError("the server answered with a certificate for another key", hint="nothing was changed")
    files = OperatorFiles(
        certificate=folder / f"{name}.crt",
        key=folder / f"{name}.key",
        p12=folder / f"{name}.p12",
        p12_password=folder / f"{name}.p12-password",
    )
    write_handed_out(files, (certificate, key.kept), name=name, randomness=os.urandom)
    _waiting_key(folder, name).unlink()
    return {**found, "certificate": str(files.certificate), "key": str(files.key)}


def _next(found: Members) -> str:
    return (
        f"next: read the code out to them, who each type fleet operator vouch {found['operator']} CODE; then"
        " this again, with --totp-file FILE if you have a second factor and showed no code of it"
    )
