"""`fleet cert verify`: is a certificate good for this fleet, now or then, and did it sign this file.

It trusts the server for what is on record, and looks at signatures itself.
"""

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, write_json, write_text
from fleet.errors import BadInputError, ExitCode, UsageError
from fleet.files import open_input
from fleet.model import Purpose

if TYPE_CHECKING:
    from cryptography import x509

_LONGEST_SIGNATURE = 64 * 1024
_NOT_SIGNED: Members = {
    "good": False,
    "standing": "not-signed",
    "why": "the signature is not its key's, or the data was changed",
}


@click.command()
@options.record
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--at", metavar="TIME", help="As it stood then, such as 2026-01-31T08:00:00Z; else now.")
@click.option("--domain", metavar="D", help="It must be of this security domain.")
@click.option(
    "--purpose", type=click.Choice([one.value for one in Purpose]), help="It must be a certificate for this."
)
@click.option(
    "--signature",
    type=click.Path(path_type=Path),
    metavar="SIG",
    help="Its key must have made this signature, binary or base64, over --data.",
)
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE", help="What was signed.")
@click.pass_context
def verify(
    context: click.Context,
    home: Place,
    form: Form,
    *,
    domain: str | None,
    file: Path,
    at: str | None,
    purpose: str | None,
    signature: Path | None,
    data: Path | None,
) -> None:
    """Say whether a certificate is good for this fleet, and why. Exit code 0: it is; 3: it is not.

    FILE is PEM, DER or PKCS#7; the first certificate in it counts. What a CA signed stays good after it was
    retired. With --signature and --data, say whether that signature was good too.
    """
    if (signature is None) != (data is None):
        raise UsageError("a signature is over data", hint="name both: --signature SIG --data FILE")
    certificate = _read(file)
    found = _asked(home, certificate, {"at": at, "domain": domain, "purpose": purpose})
    if found["good"] and signature is not None and data is not None:
        signed = _is_signed(certificate, signature, data)
        found = {**found, **(_signed(found) if signed else _NOT_SIGNED)}
    if form is Form.TABLE:
        write_text(f"{'good' if found['good'] else 'not good'}: {found['why']}")
    else:
        write_json(found)
    context.exit(ExitCode.DONE if found["good"] else ExitCode.REFUSED)


def _read(file: Path) -> "x509.Certificate":
    from fleet.ca.certificate_files import LARGEST, read_certificates  # noqa: PLC0415 - the cryptography

    with open_input(file) as opened:
        content = opened.read(LARGEST + 1)
    try:
        return read_certificates(content)[0]
    except BadInputError as error:
        raise BadInputError(f"{file}: {error}", hint=error.hint) from error


def _asked(home: Place, certificate: "x509.Certificate", wanted: dict[str, str | None]) -> Members:
    from fleet.ca.issuer import pem_bundle  # noqa: PLC0415 - the cryptography, needed here only

    members = {name: value for name, value in wanted.items() if value is not None}
    body: Members = {"certificate": pem_bundle([certificate]), **members}

    def act(client: Client) -> Members:
        return client.post("certificates", "verify", body=body)

    return with_client(home, act)


def _is_signed(certificate: "x509.Certificate", signature: Path, data: Path) -> bool:
    """Tell whether its key made a signature as X.509 has them: ECDSA, RSA PKCS#1 v1.5, Ed25519, ML-DSA."""
    from fleet.ca.signers import is_signed  # noqa: PLC0415 - the cryptography, needed here only
    from fleet.core.goodkey import certified_key  # noqa: PLC0415 - as above

    with open_input(signature) as opened:
        given = opened.read(_LONGEST_SIGNATURE)
    with open_input(data) as opened:
        message = opened.read()
    key = certified_key(certificate.public_key())
    return any(is_signed(key, one, message) for one in _forms(given))


def _forms(given: bytes) -> list[bytes]:
    """Return a signature as it may be meant: its bytes, and those behind base64."""
    try:
        return [given, base64.b64decode(b"".join(given.split()), validate=True)]
    except binascii.Error:
        return [given]


def _signed(found: Members) -> Members:
    return {"why": f"it signed the data: {found['why']}"}
