"""`fleet adoption ...`: fleets with certificates of another CA, until each device has moved to ours."""

import base64
import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, show_record
from fleet.errors import BadInputError
from fleet.files import telling

_COLUMNS = (
    Column(title="ADOPTION", member="adoption", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="LISTED", member="listed"),
    Column(title="MOVED", member="moved"),
    Column(title="LEFT", member="here"),
    Column(title="WAITING", member="waiting"),
    Column(title="CRL UNTIL", member="crls_until"),
    Column(title="CLOSED", member="closed_at"),
)
_LEFT = (
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="SERIAL", member="serial"),
    Column(title="ADMITTED", member="admitted_at"),
)
_ADOPTION = {
    "adoption": "adoption",
    "domain": "domain",
    "listed": "listed",
    "moved": "moved",
    "here": "left",
    "waiting": "waiting",
}
_ENDED = {"ended": "cut off"}
_AT_ONCE = 1000

_list_option = click.option(
    "--list",
    "table",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="CSV",
    help="device_id, and serial, fingerprint (SHA-256) or both.",
)
_certificates_option = click.option(
    "--certificates",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="PEM",
    help="The certificates that the list names, in one file: brokers let those in at once.",
)


@click.group()
def command() -> None:
    """Fleets with certificates of another CA: let in by a list until they move to ours."""


@command.command("open")
@options.record
@options.domain
@click.argument("name")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    metavar="PEM",
    help="The other fleet's root and issuing CAs.",
)
@click.option(
    "--crl",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    metavar="PEM",
    help="Their revocation lists.",
)
@_list_option
@_certificates_option
def open_adoption(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    name: str,
    ca: Path,
    crl: Path,
    table: Path | None,
    certificates: Path | None,
) -> None:
    """Adopt a fleet: trust its CAs for what is listed, and nothing else."""
    rows = [] if table is None else _rows(table, certificates)
    wanted = options.domain_of(home, domain)
    pem = _read(ca) + b"\n" + _read(crl)

    def act(client: Client) -> Members:
        opened = client.post_text("adoptions", body=pem, name=name, domain=wanted)
        return {**opened, **_hand_in(client, name, rows)}

    show_record(with_client(home, act), form, names=_ADOPTION)
    if form is Form.TABLE:
        say(f"next: let the devices renew, and follow them: fleet adoption left {name}")


@command.command()
@options.record
@click.argument("name")
@_list_option
@_certificates_option
def add(home: Place, form: Form, *, name: str, table: Path | None, certificates: Path | None) -> None:
    """List more certificates of an adopted fleet; the same list may come twice."""
    if table is None:
        raise BadInputError("there is no list", hint="--list CSV")
    rows = _rows(table, certificates)
    found = with_client(home, lambda client: _hand_in(client, name, rows))
    show_record(found, form, names={"admitted": "admitted", "waiting": "waiting", "known": "known"})


@command.command()
@options.record
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def crl(home: Place, form: Form, *, name: str, file: Path) -> None:
    """Take newer revocation lists of an adopted fleet's CAs; who is on them is cut off."""
    body = _read(file)
    found = with_client(home, lambda client: client.post_text("adoptions", name, "crls", body=body))
    show_record(found, form, names=_ENDED)


@command.command("list")
@options.listing
def list_adoptions(home: Place, form: Form) -> None:
    """List the adopted fleets, and how far each has moved."""

    def act(client: Client) -> None:
        show_list(client.items("adoptions"), form, columns=_COLUMNS, empty="no fleet was adopted")

    with_client(home, act)


@command.command()
@options.listing
@options.limit(None)
@click.argument("name")
def left(home: Place, form: Form, *, limit: int | None, name: str) -> None:
    """List the devices of an adopted fleet that have not moved yet."""

    def act(client: Client) -> None:
        found = client.items("adoptions", name, "left", limit=limit)
        show_list(found, form, columns=_LEFT, empty=f"all have moved: fleet adoption close {name}")

    with_client(home, act)


@command.command()
@options.record
@click.argument("name")
def close(home: Place, form: Form, *, name: str) -> None:
    """Let nobody in by that fleet's certificates any more; who has moved stays, the others are cut off."""
    found = with_client(home, lambda client: client.post("adoptions", name, "close", body={}))
    show_record(found, form, names=_ENDED)


def _hand_in(client: Client, name: str, rows: list[Mapping[str, str]]) -> Members:
    """Hand a list in, part by part; return what became of it."""
    counts = {"admitted": 0, "waiting": 0, "known": 0}
    for start in range(0, len(rows), _AT_ONCE):
        body = _csv_of(rows[start : start + _AT_ONCE])
        found = client.post_text("adoptions", name, "leaves", body=body)
        for count in counts:
            counts[count] += int(str(found[count]))
    if not rows:
        return {}
    return {**counts, "listed": sum(counts.values()), "here": counts["admitted"]}


def _rows(table: Path, certificates: Path | None) -> list[Mapping[str, str]]:
    """Return the rows of a list, each with its certificate where the other file holds it."""
    try:
        found = list(csv.DictReader(io.StringIO(_read(table).decode("utf-8-sig")), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadInputError(f"{table} is no CSV in UTF-8: {error}") from error
    known = {} if certificates is None else dict(_named(certificates))
    for row in found:
        named = [(row.get(name) or "").strip().lower().replace(":", "") for name in ("fingerprint", "serial")]
        keys = [named[0], named[1].removeprefix("0x").lstrip("0")]
        if found_der := next((known[key] for key in keys if key and key in known), None):
            row["certificate"] = found_der
    return [*found]


def _named(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the certificates of a file (base64 of DER) by fingerprint, and by serial."""
    from cryptography import x509  # noqa: PLC0415 - needed with --certificates only
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - as above

    try:
        found = x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise BadInputError(f"{path} holds no certificates in PEM") from error
    for one in found:
        der = base64.b64encode(one.public_bytes(Encoding.DER)).decode()
        yield one.fingerprint(hashes.SHA256()).hex(), der
        yield f"{one.serial_number:x}", der


def _csv_of(rows: list[Mapping[str, str]]) -> bytes:
    names = ("device_id", "serial", "fingerprint", "certificate")
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _read(path: Path) -> bytes:
    with telling(path):
        return path.read_bytes()
