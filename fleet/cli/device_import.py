"""`fleet device import`: lists of devices, from a spreadsheet or from their maker."""

import base64
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.handed import content_of
from fleet.cli.options import Place
from fleet.cli.output import Form, show_record

_FORMATS = ["auto", "csv", "json", "jsonl", "secure-elements"]


@click.command("import")
@options.record
@options.domain
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--format", "kind", type=click.Choice(_FORMATS), default="auto", help="Else by how it begins.")
@click.option(
    "--signer", metavar="CERT", type=click.Path(path_type=Path), help="Who signed its entries; PEM or DER."
)
def import_devices(
    home: Place, form: Form, *, domain: str | None, file: Path, kind: str, signer: Path | None
) -> None:
    """Register the devices of a list: CSV, JSON, JSON lines, or signed secure elements; - is standard input.

    The columns are device_id, and any of domain, kind, batch, hardware, note; and of what the maker says
    that a device comes with: public_key, certificate, ek (SHA-256 in hex, or DER in base64) and
    certificate_serial (MANUFACTURER:HEX). All of the list is taken or nothing of it; devices that are
    known already stay as they are, so a list may come twice.
    """
    place, body = options.domain_of(home, domain), content_of(file)
    signed_by = None if signer is None else _certificate(signer)
    found = with_client(
        home,
        lambda client: client.post_text(
            "devices", "import", body=body, domain=place, format=kind, signer=signed_by
        ),
    )
    names = {"listed": "listed", "registered": "new", "things": "keys"}
    show_record(found, form, names=names)


def _certificate(file: Path) -> str:
    """Return a certificate for a query: DER in base64url."""
    content = content_of(file)
    if content.lstrip().startswith(b"-----"):
        lines = [line for line in content.decode("ascii", "replace").splitlines() if "-----" not in line]
        return "".join(lines).translate(str.maketrans("+/", "-_", "= \t\r"))
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
