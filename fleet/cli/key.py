"""`fleet key ...`: keys that are never certified again, whoever asks."""

import re
from collections.abc import Sequence
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Json, Members, say, show_list, show_record
from fleet.cli.table import Column
from fleet.errors import BadInputError

_COLUMNS = (
    Column(title="KEY (SHA-256)", member="key_hash", whole=True),
    Column(title="BLOCKED", member="blocked_at"),
    Column(title="BY", member="blocked_by"),
    Column(title="REASON", member="reason"),
)
_NAMES = {"blocked": "blocked", "known": "blocked before", "in_force": "still in force"}
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LARGEST = 1024 * 1024
_AT_ONCE = 64


@click.group()
def command() -> None:
    """Keys that are never certified again, over any channel, for any purpose."""


@command.command()
@options.record
@click.argument("key", metavar="FILE|SHA256")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the audit trail.")
def block(home: Place, form: Form, *, key: str, reason: str) -> None:
    """Block a key for good.

    FILE is a certificate, a request, a public or a private key, in PEM or DER, or a list of hashes, one a
    line; SHA256 is the hash of the key's SubjectPublicKeyInfo, as certificates are listed with it. A key of
    a certificate that is revoked as keyCompromise is blocked without this.
    """
    hashes = [key.lower()] if _HASH.fullmatch(key.lower()) else _hashes_of(Path(key))
    parts = [hashes[first : first + _AT_ONCE] for first in range(0, len(hashes), _AT_ONCE)]

    def act(client: Client) -> list[Members]:
        return [client.post("keys", "block", body={"key_hashes": part, "reason": reason}) for part in parts]

    found = with_client(home, act)
    in_force = [serial for part in found for serial in _texts(part["in_force"])]
    told: Members = {
        "blocked": sum(_number(part["blocked"]) for part in found),
        "known": sum(_number(part["known"]) for part in found),
        "in_force": in_force,
    }
    show_record(told, form, names=_NAMES)
    if in_force and form is Form.TABLE:
        say("hint: what is in force with a blocked key stays so until it is revoked: fleet cert revoke")


@command.command("list")
@options.listing
def list_keys(home: Place, form: Form) -> None:
    """List the blocked keys, by hash."""

    def act(client: Client) -> None:
        show_list(client.items("keys", "blocked"), form, columns=_COLUMNS)

    with_client(home, act)


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _texts(value: Json) -> list[str]:
    listed = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [text for text in listed if isinstance(text, str)]


def _hashes_of(file: Path) -> list[str]:
    from fleet.ca.key_files import key_hash_of  # noqa: PLC0415 - the CA's parts, needed here only

    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadInputError(
            f"{file} cannot be read: {(error.strerror or '').lower()}",
            hint="name a file, or a SHA-256 of 64 hex digits",
        ) from error
    if len(content) > _LARGEST:
        raise BadInputError(f"{file} is larger than {_LARGEST} bytes", hint="split the list")
    listed = content.decode("ascii", errors="replace").lower().split()
    if listed and all(_HASH.fullmatch(each) for each in listed):
        return listed
    return [key_hash_of(content, name=str(file))]
