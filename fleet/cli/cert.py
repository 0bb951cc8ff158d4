"""`fleet cert ...`: certificates, of any purpose, and taking them back."""

from pathlib import Path

import click

from fleet.cli import options, own
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
from fleet.errors import BadInputError, ExitCode, UsageError

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
    "privilegeWithdrawn",
)
_PURPOSES = ("device", "claim", "server", "service", "operator", "station", "signer", "authority")
_MAX_FILE = 64 * 1024

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
@click.option("--leaf", is_flag=True, help="The certificate alone, without its issuing CA.")
def export(home: Place, *, serial: str, leaf: bool) -> None:
    """Print a certificate and its issuing CA as PEM."""
    number = options.serial(serial)
    chain = with_client(home, lambda client: client.text("certificates", number, "pem"))
    end = "-----END CERTIFICATE-----\n"
    write_text(chain.partition(end)[0] + end if leaf else chain)


@command.command()
@options.record
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--at", metavar="TIME", help="As it stood then, such as 2026-01-31T08:00:00Z; else now.")
@click.pass_context
def verify(context: click.Context, home: Place, form: Form, *, file: Path, at: str | None) -> None:
    """Say whether a certificate is good, and why. Exit code 0: it is; 3: it is not."""
    body: Members = {"certificate": _read_pem(file), **({} if at is None else {"at": at})}
    found = with_client(home, lambda client: client.post("certificates", "verify", body=body))
    if form is Form.TABLE:
        write_text(f"{'good' if found['good'] else 'not good'}: {found['why']}")
    else:
        write_json(found)
    context.exit(ExitCode.DONE if found["good"] else ExitCode.REFUSED)


@command.command()
@options.record
@options.domain
@click.option("--device", metavar="DEVICE", help="All certificates of a device.")
@click.option("--serial", metavar="SERIAL", help="A certificate, with all of its device's line.")
@click.option(
    "--lineage", metavar="SERIAL", help="A certificate and all that were renewed from it or led to it."
)
@click.option("--batch", metavar="NAME", help="All devices of a batch.")
@click.option("--query", metavar="Q", help='Devices by terms, such as "domain=prod prefix=line3-".')
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
    reason: str,
) -> None:
    """Take certificates back, end their sessions, and print a receipt with the measured times."""
    given = {"device": device, "serial": serial, "lineage": lineage, "batch": batch, "query": query}
    body = {**_selection(home, domain, given), "reason": reason}
    receipt = with_client(home, lambda client: client.post("revocations", body=body))
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


def _read_pem(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadInputError(f"{file} cannot be read: {(error.strerror or '').lower()}") from error
    if len(content) > _MAX_FILE or b"-----BEGIN CERTIFICATE-----" not in content:
        raise BadInputError(f"{file} holds no certificate in PEM", hint="fleet cert export makes one")
    start = content.index(b"-----BEGIN CERTIFICATE-----")
    return content[start:].decode("ascii", errors="replace")
