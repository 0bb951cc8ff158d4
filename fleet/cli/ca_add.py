"""`fleet ca add` and what follows: a new issuing CA, certified by the root at hand or by somebody else."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options, root_key
from fleet.cli.client import Client, with_client
from fleet.cli.handed import standard_input
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, say, show_record, write_text
from fleet.core.authority import KeyKind
from fleet.errors import BadInputError, NotFoundError, RefusedError, UsageError
from fleet.files import PUBLIC_MODE, telling, write_file
from fleet.model import Purpose

if TYPE_CHECKING:
    from fleet.ca.issuer import Issuer

_PURPOSES = tuple(each.value for each in Purpose if each not in {Purpose.SIGNER, Purpose.AUTHORITY})
_MOST_BYTES = 24 * 1024
_NAMES = {
    "name": "CA",
    "state": "state",
    "domain": "domain",
    "signed_by": "signed by",
    "issuer": "issuer id",
    "not_after": "ends",
}
_REALM_OF_OWN = {"claim": "bootstrap"}
"""Which root stands above the CAs that are of no domain; `fleet` where nothing is said."""

_name = click.argument("name", metavar="CA")


@click.command()
@options.record
@options.domain
@root_key.options
@click.option(
    "--purpose",
    type=click.Choice(_PURPOSES),
    default="device",
    help="What its certificates are for [device].",
)
@click.option("--room", type=click.IntRange(1), metavar="N", help="How many leaves at most at a time.")
@click.option("--token", metavar="URI", help="Make its key in a PKCS#11 token (RFC 7512), not in a file.")
@click.option("--standby", is_flag=True, help="Keep it for the day when it is needed: it does not sign yet.")
@click.option(
    "--csr",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Have it certified by somebody else: write the request there (- is stdout).",
)
def add(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    root_folder: Path | None,
    passphrase_file: Path | None,
    purpose: str,
    room: int | None,
    token: str | None,
    standby: bool,
    csr: Path | None,
) -> None:
    """Add an issuing CA, and let it sign beside the others.

    Its key is made by the server. The root's key is needed here, in the home or in a folder on another disk
    (--root). With --csr it is not: a request is written for the company's own CA, and fleet ca import takes
    what that makes of it.
    """
    if csr is not None and (root_folder is not None or standby):
        raise UsageError(
            "a request is signed by somebody else, and stands by then", hint="leave the rest out"
        )
    body: dict[str, str | int] = {"purpose": purpose}
    if purpose == Purpose.DEVICE:
        body["domain"] = options.domain_of(home, domain)
    if room is not None:
        body["room"] = room
    if token is not None:
        body["token"] = token
    realm = str(body.get("domain", _REALM_OF_OWN.get(purpose, "fleet")))

    def act(client: Client) -> Members:
        if csr is not None:
            return client.post("authorities", body=body)
        record = _active_root(client, realm)
        # Before anything is asked of the server: a wrong passphrase leaves nothing behind.
        root = opened_root(client, record, home=home, named=root_folder, passphrase_file=passphrase_file)
        return certified(client, client.post("authorities", body=body), root, standby=standby)

    found = with_client(home, act)
    if csr is not None:
        _write_request(str(found["csr"]), csr)
    shown = {member: value for member, value in found.items() if member not in {"common_name", "status_url"}}
    if csr != Path("-"):
        show_record(shown, form, names=_NAMES)
    if csr is not None:
        say(f"next: have it signed, then fleet ca import {found['name']} CHAIN")


@click.command("import")
@options.record
@_name
@click.argument("chain", type=click.Path(path_type=Path), metavar="CHAIN")
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The root above it, where it is not one of ours: believed from now on.",
)
def take(home: Place, form: Form, *, name: str, chain: Path, anchor: Path | None) -> None:
    """Take the certificate that was made of a request.

    CHAIN is PEM: the CA's own certificate first, then those above it, the root last or left out. It is
    checked, and the CA stands by; fleet ca activate lets it sign.
    """
    body = {"chain": _read(chain)} | ({} if anchor is None else {"anchor": _read(anchor)})
    found = with_client(home, lambda client: client.post("authorities", name, "certificate", body=body))
    show_record(found, form, names=_NAMES)
    if form is Form.TABLE:
        say(f"next: fleet ca activate {found['name']}")


@click.command()
@options.record
@_name
def activate(home: Place, form: Form, *, name: str) -> None:
    """Let an issuing CA sign, beside those that do.

    From the next certificate on, without a restart, and without a session dropped.
    """
    found = with_client(home, lambda client: client.post("authorities", name, "activate", body={}))
    show_record(found, form, names=_NAMES)


@click.command()
@options.record
@_name
def stop(home: Place, form: Form, *, name: str) -> None:
    """Let an issuing CA sign nothing new.

    What it signed is good until its end. The last one that signs for a domain or a purpose is not stopped.
    """
    found = with_client(home, lambda client: client.post("authorities", name, "stop", body={}))
    show_record(found, form, names=_NAMES)


@click.command()
@options.record
@_name
@click.option("--none", "boundless", is_flag=True, help="Take its bound away.")
@click.argument("number", type=click.IntRange(1), metavar="[N]", required=False)
def room(home: Place, form: Form, *, name: str, number: int | None, boundless: bool) -> None:
    """Show how many leaves an issuing CA should have, or with N say it.

    New leaves go to the first active CA with room.
    """
    if boundless and number is not None:
        raise UsageError("a bound is taken away or set", hint="N or --none, not both")

    def act(client: Client) -> Members:
        if number is None and not boundless:
            return client.get("authorities", name)
        return client.post("authorities", name, "room", body={} if number is None else {"room": number})

    found = with_client(home, act)
    show_record(found, form, names={**_NAMES, "leaves": "leaves", "room": "room"})


COMMANDS: tuple[click.Command, ...] = (add, take, activate, stop, room)


def like(name: str) -> str:
    """Return the command that makes another CA like one, which is named as `prod/device-1`."""
    realm, _, rest = name.partition("/")
    purpose = rest.rpartition("-")[0]
    return f"fleet ca add --{f'domain {realm}' if purpose == Purpose.DEVICE else f'purpose {purpose}'}"


def opened_root(
    client: Client, record: Members, *, home: Place, named: Path | None, passphrase_file: Path | None
) -> "Issuer":
    """Return a root with its key open, from the home or from the folder that was named.

    Raises:
        FleetError: the key is not there or does not open, or the folder holds another root.
    """
    from fleet.ca.root_at_hand import open_root  # noqa: PLC0415 - the whole CA, needed here only

    if record["key"] == KeyKind.ELSEWHERE:
        raise RefusedError(
            f"the root {record['name']} is somebody else's, who signs by request",
            hint="fleet ca add --csr FILE, and fleet ca crl CA --take FILE",
        )
    files = root_key.folder_of(home, named, str(record["name"]))
    root = open_root(
        files,
        fleet=str(client.get("whoami")["fleet"]),
        passphrase=root_key.opener(home, passphrase_file, files),
    )
    if root.anchor != record["anchor"]:
        raise BadInputError(
            f"{files.folder} holds another root than {record['name']}", hint=f"fleet ca show {record['name']}"
        )
    return root


def _active_root(client: Client, realm: str) -> Members:
    for each in client.items("authorities"):
        if (each["kind"], each["realm"], each["state"]) == ("root", realm, "active"):
            return each
    raise NotFoundError(f"{realm} has no root that is active", hint="fleet ca list")


def certified(client: Client, requested: Members, root: "Issuer", *, standby: bool) -> Members:
    """Sign what was requested, hand it in, and let it sign unless it is to stand by. Raises `FleetError`."""
    from fleet.ca.root_at_hand import IssuingOrder, sign_issuing  # noqa: PLC0415 - as above

    order = IssuingOrder(
        csr_pem=str(requested["csr"]),
        common_name=str(requested["common_name"]),
        purpose=Purpose(str(requested["purpose"])),
        status_url=str(requested["status_url"]),
    )
    now = datetime.now(UTC).replace(microsecond=0)
    issued = sign_issuing(root, order, now=now, randomness=os.urandom)
    name = str(requested["name"])
    found = client.post("authorities", name, "certificate", body={"chain": issued.pem})
    return found if standby else client.post("authorities", name, "activate", body={})


def _write_request(csr_pem: str, path: Path) -> None:
    if path == Path("-"):
        write_text(csr_pem)
    else:
        write_file(path.absolute(), csr_pem.encode(), mode=PUBLIC_MODE)


def _read(path: Path) -> str:
    with telling(path):
        content = standard_input(_MOST_BYTES + 1) if path == Path("-") else path.read_bytes()
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise BadInputError(
            f"{path} is not PEM", hint=f"openssl x509 -inform DER -in {path} turns DER into PEM"
        ) from error
