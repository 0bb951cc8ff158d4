"""`fleet operator totp ...`: your second factor, codes of an app on your phone (RFC 6238)."""

import sys
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.codes import code_of
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, say, show_list, show_record, write_json, write_text

_COLUMNS = (
    Column(title="OPERATOR", member="operator", whole=True),
    Column(title="MADE", member="made_at"),
    Column(title="COUNTS SINCE", member="confirmed_at"),
    Column(title="LOCKED", member="locked"),
)
_NAMES = {"operator": "operator", "done": "done"}
_code_file = click.option(
    "--code-file",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Holds the code, - is standard input; a terminal is asked without it.",
)


@click.group()
def totp() -> None:
    """Your second factor: codes of an app on your phone, asked for beside your certificate.

    Which acts need one, [acts] code_for in fleet.toml says. The owner of the home is never asked.
    """


@totp.command()
@options.record
def enroll(home: Place, form: Form) -> None:
    """Make your second factor; what is printed is its secret, which the server never shows again."""
    made = with_client(home, lambda client: client.post("second-factors", body={}))
    if form is not Form.TABLE:
        write_json(made)
        return
    uri = str(made["uri"])
    if sys.stdout.isatty():
        _draw(uri)
    write_text(uri)
    say("next: let your app take it in, then fleet operator totp confirm with the first code")


@totp.command()
@options.record
@_code_file
def confirm(home: Place, form: Form, *, code_file: Path | None) -> None:
    """Let your second factor count, by the first code of your app."""
    _send(home, form, "confirm", code_file)


@totp.command()
@options.record
@_code_file
def remove(home: Place, form: Form, *, code_file: Path | None) -> None:
    """Forget your second factor, by a code of it."""
    _send(home, form, "remove", code_file)


@totp.command()
@options.record
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the audit trail.")
@click.argument("name")
def reset(home: Place, form: Form, *, reason: str, name: str) -> None:
    """Forget the second factor of somebody else, who lost the phone or typed too many wrong codes."""

    def act(client: Client) -> None:
        found = client.post("second-factors", name, "reset", body={"reason": reason})
        show_record(found, form, names=_NAMES)

    with_client(home, act)


@totp.command("list")
@options.listing
def list_factors(home: Place, form: Form) -> None:
    """List who has a second factor."""

    def act(client: Client) -> None:
        show_list(client.items("second-factors"), form, columns=_COLUMNS, empty="nobody has one")

    with_client(home, act)


def _send(home: Place, form: Form, verb: str, code_file: Path | None) -> None:
    body = {"totp": code_of(code_file)}
    found = with_client(home, lambda client: client.post("second-factors", verb, body=body))
    show_record(found, form, names=_NAMES)


def _draw(uri: str) -> None:
    """Draw the secret for a phone's camera, where the extra `labels` is installed."""
    try:
        import segno  # noqa: PLC0415 - behind the extra `labels`
    except ImportError:
        say("hint: pip install 'fleet-provisioning[labels]' draws it as a QR code, too")
        return
    segno.make_qr(uri, error="m").terminal(compact=True)
