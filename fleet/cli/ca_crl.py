"""`fleet ca crl`: the revocation lists of roots, made where the key is, and those of other people's CAs."""

import base64
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options, root_key
from fleet.cli.ca_add import opened_root
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, show_record
from fleet.errors import BadInputError
from fleet.files import telling

if TYPE_CHECKING:
    from fleet.ca.issuer import Issuer

_NAMES = {
    "issuer": "issuer id",
    "number": "list",
    "revoked": "names",
    "this_update": "made",
    "next_update": "good until",
}
_PEM = re.compile(rb"-----BEGIN X509 CRL-----(.+?)-----END X509 CRL-----", re.DOTALL)


@click.command()
@options.record
@root_key.options
@click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=366,
    metavar="N",
    help="How long a root's list is good [366].",
)
@click.option(
    "--take",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Put this list in force (DER or PEM), of a CA whose key is somebody else's.",
)
@click.argument("name", metavar="CA")
def crl(
    home: Place,
    form: Form,
    *,
    root_folder: Path | None,
    passphrase_file: Path | None,
    days: int,
    take: Path | None,
    name: str,
) -> None:
    """Renew the revocation list of a CA.

    That of a root is signed here, by its key in the home or on another disk (--root). An issuing CA's is
    made by the server, as it is every few hours anyway. Somebody else's is handed in with --take.
    """

    def act(client: Client) -> Members:
        if take is not None:
            return _hand_in(client, name, _read(take))
        record = client.get("authorities", name)
        if record["kind"] == "issuing":
            return client.post("authorities", name, "crl", body={})
        root = opened_root(client, record, home=home, named=root_folder, passphrase_file=passphrase_file)
        return renewed(client, name, root, timedelta(days=days))

    show_record(with_client(home, act), form, names=_NAMES)


def renewed(client: Client, name: str, root: "Issuer", lifetime: timedelta) -> Members:
    """Sign the next list of a root, and hand it in. Raises `FleetError`."""
    from fleet.ca.root_at_hand import sign_list  # noqa: PLC0415 - the whole CA, needed here only

    order = client.post("authorities", name, "list", body={})
    number, entries = order["number"], base64.b64decode(str(order["entries"]))
    assert isinstance(number, int)  # noqa: S101 - our own server's answer
    now = datetime.now(UTC).replace(microsecond=0)
    encoded = sign_list(root, [entries] if entries else [], number=number, now=now, lifetime=lifetime)
    return _hand_in(client, name, encoded)


def _hand_in(client: Client, name: str, encoded: bytes) -> Members:
    return client.post("authorities", name, "crl", body={"crl": base64.b64encode(encoded).decode()})


def _read(path: Path) -> bytes:
    """Return the list of a file, which is DER, or PEM as some publish it (RFC 7468 6)."""
    with telling(path):
        content = path.read_bytes()
    body = _PEM.search(content)
    if body is None:
        return content
    try:
        return base64.b64decode(b"".join(body[1].split()), validate=True)
    except ValueError as error:
        raise BadInputError(
            f"{path} is neither DER nor PEM", hint="openssl crl -inform DER shows it"
        ) from error


COMMANDS: tuple[click.Command, ...] = (crl,)
