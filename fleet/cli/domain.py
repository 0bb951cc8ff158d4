"""`fleet domain ...`: security domains. A leaf of one is worth nothing in another."""

import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.wire.secret import Secret
from fleet.cli import options, root_key
from fleet.cli.ca_add import certified
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, say, show_list, show_record
from fleet.cli.table import Column
from fleet.core.goodkey import KeyType
from fleet.errors import RefusedError, UsageError
from fleet.files import sync_folder, telling
from fleet.home import AuthorityFiles, Home, open_home
from fleet.model import Purpose

if TYPE_CHECKING:
    from fleet.ca.issuer import Issuer

_COLUMNS = (
    Column(title="DOMAIN", member="domain", whole=True),
    Column(title="DEVICES", member="devices"),
    Column(title="SIGNED BY", member="issuing", whole=True),
)
_NAMES = {
    "domain": "domain",
    "devices": "devices",
    "issuing": "signed by",
    "anchors": "anchors",
}
_WORK_FACTOR = 14
"""scrypt's N is 2 to this power."""
_FLEET = "fleet"
"""The realm whose root every home has."""


@click.group()
def command() -> None:
    """Security domains: each has its own root, issuing CAs and profiles."""


@command.command("list")
@options.listing
def list_domains(home: Place, form: Form) -> None:
    """List the domains."""

    def act(client: Client) -> None:
        show_list(client.items("domains"), form, columns=_COLUMNS)

    with_client(home, act)


@command.command()
@options.record
@click.argument("name", metavar="D")
def show(home: Place, form: Form, *, name: str) -> None:
    """Show one; --json holds the roots that its devices trust."""
    found = with_client(home, lambda client: client.get("domains", options.domain_name(name)))
    show_record(found, form, names=_NAMES)


@command.command()
@options.home
@options.as_json
@click.option(
    "--ca-key", type=click.Choice([each.value for each in KeyType]), default="p256", help="Of its CAs [p256]."
)
@click.option("--token", metavar="URI", help="Make the keys of its CAs in a PKCS#11 token (RFC 7512).")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Holds the passphrase of the root keys [the home's, while it is there; else asked for].",
)
@click.argument("name", metavar="D")
def add(
    home: Path, form: Form, *, ca_key: str, token: str | None, passphrase_file: Path | None, name: str
) -> None:
    """Add a domain to a fleet, also while it runs.

    It gets a root, an issuing CA, a station and a public claim. Nothing is restarted. Done again after it was
    cut off, it goes on where it was.
    """
    from fleet.ra.authority.new_domain import check_name  # noqa: PLC0415 - the whole CA, needed here only

    if token is not None and passphrase_file is not None:
        raise UsageError("keys in a token are under its PIN", hint="leave --passphrase-file out")
    place = open_home(home)
    check_name(wanted := options.domain_name(name))
    passphrase = None if token is not None else root_key.passphrase(home, passphrase_file)

    def act(client: Client) -> Members:
        known = {str(each["domain"]): each for each in client.items("domains")}
        if wanted in known and known[wanted]["issuing"]:
            raise RefusedError(f"there is a domain {wanted}", hint=f"fleet domain show {wanted}")
        fleet = str(client.get("whoami")["fleet"])
        making = _Making(fleet=fleet, key_type=KeyType(ca_key), token=token, passphrase=passphrase)
        root = _root(place, wanted, making)
        client.post("domains", body={"domain": wanted, "ca_key": ca_key})
        body = {"purpose": Purpose.DEVICE.value, "domain": wanted} | (
            {} if token is None else {"token": token}
        )
        certified(client, client.post("authorities", body=body), root, standby=False)
        return client.get("domains", wanted)

    found = with_client(home, act)
    show_record(found, form, names=_NAMES)
    if form is Form.TABLE:
        say(f"next: fleet claim create --domain {wanted} --device ID")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Making:
    """How the root of a new domain is made."""

    fleet: str
    key_type: KeyType
    token: str | None
    passphrase: Secret | None


def _root(home: Home, domain: str, making: _Making) -> "Issuer":
    """Return the domain's root with its key open: a new one, or the one that was made before a cut."""
    from fleet.ca.root_at_hand import open_root  # noqa: PLC0415 - the whole CA, needed here only

    files, others = home.authority(domain), home.authority(_FLEET)
    if files.ca.certificate.exists():
        return open_root(files, fleet=making.fleet, passphrase=making.passphrase)
    if making.passphrase is not None and others.ca.key.exists():
        # All roots of a home are under one passphrase: a slip of the pen shows before a key is under it.
        open_root(others, fleet=making.fleet, passphrase=making.passphrase)
    return _make_root(home, domain, making)


def _make_root(home: Home, domain: str, making: _Making) -> "Issuer":
    from fleet.ca.founding import Founder  # noqa: PLC0415 - as above
    from fleet.ca.token_keys import TokenKeys, parse_token  # noqa: PLC0415 - as above

    passphrase = making.passphrase or Secret("")
    founder = Founder(
        fleet=making.fleet,
        now=datetime.now(UTC).replace(microsecond=0),
        randomness=os.urandom,
        status_url="",
        root_passphrase=passphrase,
        issuing_passphrase=passphrase,
        work_factor=_WORK_FACTOR,
        ca_keys={domain: making.key_type},
        token=None if making.token is None else parse_token(making.token),
        tokens=TokenKeys(home.refused_pins),
    )
    staged = AuthorityFiles(folder=home.ca / f".{domain}.{secrets.token_hex(8)}.partial")
    with founder.tokens.or_none():
        try:
            root, _ = founder.root(staged, realm=domain)
            founder.root_crl(staged, root)
            with telling(home.ca):
                staged.folder.rename(home.authority(domain).folder)
                sync_folder(home.ca)
        except BaseException:
            shutil.rmtree(staged.folder, ignore_errors=True)
            raise
    return root
