"""`fleet cert ...`: certificates, of any purpose, and taking them back."""

import sys
from pathlib import Path

import click

from fleet.cli import cert_verify, options, own, selecting
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import (
    Column,
    Form,
    Members,
    items_of,
    say,
    show_list,
    show_record,
    write_json,
    write_text,
)
from fleet.errors import ExitCode, UsageError
from fleet.files import PUBLIC_MODE, write_file
from fleet.terminal import can_ask, is_shown

_COLUMNS = (
    Column(title="SERIAL", member="serial", whole=True),
    Column(title="NAME", member="name"),
    Column(title="PURPOSE", member="purpose"),
    Column(title="STATE", member="state"),
    Column(title="ENDS", member="not_after"),
)
_NAMES = {
    "serial": "serial",
    "name": "name",
    "purpose": "purpose",
    "state": "state",
    "revoked_at": "revoked",
    "reason": "reason",
    "not_before": "from",
    "not_after": "to",
    "profile": "profile",
    "parent": "renewed from",
    "issuer": "issuing CA",
    "fingerprint": "SHA-256",
    "key_hash": "key",
}
_SESSIONS = (
    Column(title="BROKER", member="broker"),
    Column(title="SESSION", member="name", whole=True),
    Column(title="CUT OFF AFTER ms", member="cut_off_ms"),
)
_REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "privilegeWithdrawn",
)
_PURPOSES = ("device", "claim", "server", "service", "operator", "station", "signer", "authority")
_SHAPES = {"pem": "pem", "leaf": "pem", "der": "pem", "chain": "chain", "p7b": "chain"}
"""Each form of an export, and the document of the API that it is made of."""

_serial = click.argument("serial", metavar="SERIAL")


@click.group()
def command() -> None:
    """Certificates of every purpose: of devices, claims, servers, operators, stations."""


command.add_command(own.renew)


@command.command("list")
@options.listing
@options.domain
@options.limit(None)
@click.option("--device", metavar="DEVICE", help="Only those of a device.")
@click.option("--purpose", type=click.Choice(_PURPOSES), help="Only those for this.")
@click.option(
    "--state", metavar="S", help="Only those in this state: active, issued, superseded, revoked, ..."
)
@click.option("--batch", metavar="NAME", help="Only those of a batch.")
@click.option(
    "--ends-before", metavar="TIME", help="Only those that end before, such as 2026-12-31T00:00:00Z."
)
@selecting.query
def list_certificates(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    limit: int | None,
    device: str | None,
    purpose: str | None,
    state: str | None,
    batch: str | None,
    ends_before: str | None,
    query: str | None,
) -> None:
    """List certificates in the order of their making."""
    device_id = None
    if device is not None:
        domain, device_id = options.identity_of(home, device, domain)

    def act(client: Client) -> None:
        found = client.items(
            "certificates",
            limit=limit,
            domain=domain,
            device_id=device_id,
            purpose=purpose,
            state=state,
            batch=batch,
            ends_before=ends_before,
            query=query,
        )
        show_list(found, form, columns=_COLUMNS, empty="no certificates")

    with_client(home, act)


@command.command()
@options.record
@_serial
def show(home: Place, form: Form, *, serial: str) -> None:
    """Show one certificate's record."""
    number = options.serial(serial)
    show_record(with_client(home, lambda client: client.get("certificates", number)), form, names=_NAMES)


@command.command()
@options.place
@_serial
@click.option(
    "--format",
    "shape",
    type=click.Choice(tuple(_SHAPES)),
    default="pem",
    help="pem: with its issuing CAs [default]; leaf: alone; der: alone, binary; chain: with its CAs and its"
    " trust anchor; p7b: the same as PKCS#7.",
)
@click.option("--leaf", is_flag=True, help="The same as --format leaf.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write to a file.")
def export(home: Place, *, serial: str, shape: str, leaf: bool, out: Path | None) -> None:
    """Print a certificate, with what those who rely on it need."""
    shape = "leaf" if leaf else shape
    if shape == "der" and out is None and is_shown():
        raise UsageError("DER is no text, and would disturb the terminal", hint="--out FILE, or --format pem")
    number, document = options.serial(serial), _SHAPES[shape]
    pem = with_client(home, lambda client: client.text("certificates", number, document))
    content = _shaped(pem, shape)
    if out is not None:
        write_file(out, content, mode=PUBLIC_MODE)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


def _shaped(pem: str, shape: str) -> bytes:
    """Return certificates in the form that was asked for; the first one is the leaf."""
    from cryptography import x509  # noqa: PLC0415 - needed here only, and takes a while
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - as above

    from fleet.ca.pkcs7 import make_pkcs7  # noqa: PLC0415 - as above

    certificates = x509.load_pem_x509_certificates(pem.encode())
    match shape:
        case "der":
            return certificates[0].public_bytes(Encoding.DER)
        case "leaf":
            return certificates[0].public_bytes(Encoding.PEM)
        case "p7b":
            return make_pkcs7(certificates).encode()
        case _:
            return pem.encode()


command.add_command(cert_verify.verify)


@command.command()
@options.record
@options.domain
@click.option("--device", metavar="DEVICE", help="All certificates of a device.")
@click.option("--serial", metavar="SERIAL", help="A certificate, with all of its device's line.")
@click.option(
    "--lineage", metavar="SERIAL", help="A certificate and all that were renewed from it or led to it."
)
@click.option("--batch", metavar="NAME", help="All devices of a batch.")
@selecting.query
@selecting.yes
@click.option("--reason", type=click.Choice(_REASONS), default="unspecified", help="As in RFC 5280 5.3.1.")
@click.pass_context
def revoke(
    context: click.Context,
    home: Place,
    form: Form,
    *,
    domain: str | None,
    device: str | None,
    serial: str | None,
    lineage: str | None,
    batch: str | None,
    query: str | None,
    yes: bool,
    reason: str,
) -> None:
    """Take certificates back, end their sessions, and print a receipt with the measured times."""
    given = {"device": device, "serial": serial, "lineage": lineage, "batch": batch, "query": query}
    body = {**_selection(home, domain, given), "reason": reason}

    def act(client: Client) -> Members:
        if query is not None and can_ask():
            selecting.agree(client, query, what="revoke", is_agreed=yes)
        return client.post("revocations", body=body)

    receipt = with_client(home, act)
    if form is Form.TABLE:
        _print_receipt(receipt)
    else:
        write_json(receipt)
    context.exit(ExitCode.DONE if receipt["verified"] else ExitCode.NEEDS_ATTENTION)


def _selection(home: Place, domain: str | None, given: dict[str, str | None]) -> Members:
    named = [(name, value) for name, value in given.items() if value is not None]
    match named:
        case [("device", device)]:
            place, device_id = options.identity_of(home, device, domain)
            return {"domain": place, "device_id": device_id}
        case [("serial" | "lineage" as name, number)]:
            return {name: options.serial(number)}
        case [("batch", batch)]:
            return {"domain": options.domain_of(home, domain), "batch": batch}
        case [("query", query)]:
            return {"query": query}
        case _:
            raise UsageError(
                "name what to revoke by one of --device, --serial, --lineage, --batch, --query",
                hint="fleet cert revoke --help",
            )


def _print_receipt(receipt: Members) -> None:
    revoked, names, sessions = receipt["revoked"], receipt["names"], items_of(receipt["sessions"])
    assert isinstance(revoked, list)  # noqa: S101 - our own server's answer
    assert isinstance(names, list)  # noqa: S101 - as above
    count = f"{len(revoked)} certificate{'' if len(revoked) == 1 else 's'}"
    write_text(f"revoked   {count} of {', '.join(map(str, names)) or 'nobody'}")
    for serial in revoked:
        write_text(f"          {serial}")
    if sessions:
        show_list(sessions, Form.TABLE, columns=_SESSIONS)
    else:
        write_text("sessions  none was live")
    if receipt["verified"]:
        write_text("verified  refused by every broker, on the CRL in force")
    else:
        say(f"error: revoked, but not verified: {receipt['problem']}")
        say("hint: it is committed and will be enforced; run it again to verify")
