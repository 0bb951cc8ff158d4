"""`fleet init`: a fleet home from a few names, with no question where no terminal is."""

import asyncio
import getpass
import os
from datetime import UTC, datetime
from pathlib import Path

import click

from device_agent.wire.secret import Secret
from fleet.cli import options
from fleet.cli.output import Form, Members, say, visible, write_json, write_text
from fleet.core.goodkey import AUTHORITY_KEY_TYPES, KeyType
from fleet.errors import BadInputError, UsageError
from fleet.files import read_secret
from fleet.terminal import can_ask


@click.command()
@options.home
@options.as_json
@click.option("--name", default="fleet", metavar="N", help="What the fleet is called: a-z 0-9 - [fleet].")
@click.option(
    "--domain", "domains", multiple=True, metavar="D", help="A security domain; may be repeated [prod]."
)
@click.option(
    "--host", "hosts", multiple=True, metavar="H", help="Name or address of this server [localhost]."
)
@click.option(
    "--status-url",
    default="",
    metavar="URL",
    help="http://HOST[:PORT] where relying parties find CRL and OCSP [this server].",
)
@click.option(
    "--ca-key",
    "ca_keys",
    multiple=True,
    metavar="D=TYPE",
    help="What a domain's authorities are made with: p256, p384, rsa, ml-dsa-44, ml-dsa-65 [p256].",
)
@click.option(
    "--token", metavar="URI", help="Make keys of roots and issuing CAs in a PKCS#11 token (RFC 7512)."
)
@click.option("--operator", default="admin", metavar="NAME", help="The first operator [admin].")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="F",
    help="Holds the passphrase of the root keys; else it is asked for, or made where no terminal is.",
)
def command(
    home: Path,
    form: Form,
    *,
    name: str,
    domains: tuple[str, ...],
    hosts: tuple[str, ...],
    status_url: str,
    ca_keys: tuple[str, ...],
    token: str | None,
    operator: str,
    passphrase_file: Path | None,
) -> None:
    """Make a fleet home: authorities, server certificate, store, first operator, broker files.

    Each security domain gets a root and an issuing CA of its own. The root keys are encrypted, and needed
    to change the authorities only: keep their passphrase off this machine.
    """
    from fleet.ca.token_keys import parse_token  # noqa: PLC0415 - as below
    from fleet.ra.authority.initialise import Initialised, Plan, initialise  # noqa: PLC0415 - the whole CA, needed here

    if token is not None and passphrase_file is not None:
        raise UsageError("keys in a token are under its PIN", hint="leave --passphrase-file out")
    plan = Plan(
        fleet=name,
        domains=domains or ("prod",),
        hosts=hosts or ("localhost",),
        status_url=status_url,
        ca_keys=dict(_ca_key(given) for given in ca_keys),
        token=None if token is None else parse_token(token),
        operator=operator,
        root_passphrase=None if token is not None else _passphrase(passphrase_file, form),
    )
    made: Initialised = asyncio.run(initialise(home, plan, now=datetime.now(UTC), randomness=os.urandom))
    found: Members = {
        "home": str(made.home.root),
        "fleet": name,
        "domains": list(plan.domains),
        "operator": str(made.operator.p12),
        "root_passphrase": str(made.home.root_passphrase) if made.root_passphrase_made else None,
    }
    if form is Form.TABLE:
        _print(found, home)
    else:
        write_json(found)


def _ca_key(given: str) -> tuple[str, KeyType]:
    domain, _, name = given.partition("=")
    try:
        return domain, KeyType(name)
    except ValueError as error:
        types = ", ".join(AUTHORITY_KEY_TYPES)
        raise UsageError(
            f"{visible(given[:64])} is not DOMAIN=TYPE", hint=f"a type is one of {types}"
        ) from error


def _print(found: Members, home: Path) -> None:
    write_text(f"made {found['home']}")
    if found["root_passphrase"] is not None:
        say(f"the passphrase of the root keys is in {found['root_passphrase']}: move it off this machine")
    at = "" if home == options.default_home() else f" --home {home}"
    say(f"next: fleet{at} serve")


def _passphrase(path: Path | None, form: Form) -> Secret | None:
    """Return the passphrase of the root keys, or None where one is to be made."""
    if path is not None:
        return read_secret(path)
    if form is not Form.TABLE or not can_ask():
        return None
    say("the root keys are encrypted with a passphrase; leave it empty and one is made for you")
    first = getpass.getpass("passphrase: ")
    if not first:
        return None
    if getpass.getpass("once more:  ") != first:
        raise BadInputError("the two are not the same", hint="nothing was made: try again")
    return Secret(first)
