"""`fleet service ...`: backends, each with a certificate of its own and a scope of topics."""

from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.handed import content_of
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, show_record, write_text
from fleet.errors import BadInputError, RefusedError
from fleet.files import make_folder
from fleet.home import KeyPairFiles

_COLUMNS = (
    Column(title="SERVICE", member="service", whole=True),
    Column(title="READS", member="reads"),
    Column(title="WRITES", member="writes"),
    Column(title="GOOD UNTIL", member="not_after"),
    Column(title="REVOKED", member="revoked_at"),
)
_NAMES = {
    "service": "service",
    "reads": "reads",
    "writes": "writes",
    "serial": "serial",
    "not_after": "good until",
    "certificate": "certificate",
    "key": "key",
}

_csr = click.option(
    "--csr",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A request in PEM whose key stays where it is; otherwise a key is made here.",
)


@click.group()
def command() -> None:
    """Backends: programs of yours that read what devices tell, and write to them where they may."""


@command.command()
@options.record
@click.argument("name")
@click.option("--read", "reads", multiple=True, metavar="FILTER", help="What it may hear; repeatable.")
@click.option("--write", "writes", multiple=True, metavar="FILTER", help="Where it may tell; repeatable.")
@_csr
@options.out("services")
def add(
    home: Place,
    form: Form,
    *,
    name: str,
    reads: tuple[str, ...],
    writes: tuple[str, ...],
    csr: Path | None,
    out: Path | None,
) -> None:
    """Add a backend with a scope of topics, such as --read 'devices/prod/#'; write its certificate and key.

    It connects to the brokers of devices with the client id NAME, or NAME.WORD for several connections.
    """
    from fleet.cli import bearer  # noqa: PLC0415 - the cryptography, needed here only
    from fleet.pair_files import pair_content, switch  # noqa: PLC0415 - as above

    files = _files(options.folder_of(home, out, "services"), name)
    key = None if csr is not None else bearer.made_here(name)
    if key is not None and files.key.exists():
        raise RefusedError(f"{files.key} is there already", hint="choose another name, or another --out")
    body = {
        "name": name,
        "reads": list(reads),
        "writes": list(writes),
        "csr": _request(csr) if key is None else key.csr,
    }
    made = with_client(home, lambda client: client.post("services", body=body))
    if key is None:
        show_record(made, form, names=_NAMES)
        return
    make_folder(files.key.parent)
    pem = str(made["certificate"])
    switch(pair_content(files, key_pem=key.kept.encode(), certificate_pem=pem), named=files.certificate)
    found: Members = {**made, "certificate": str(files.certificate), "key": str(files.key)}
    show_record(found, form, names=_NAMES)
    if form is Form.TABLE:
        say(f"next: hand both files to {name}; it connects with the client id {name}")


@command.command("list")
@options.listing
def list_services(home: Place, form: Form) -> None:
    """List the backends, revoked ones too, with the end of each one's certificate."""

    def act(client: Client) -> None:
        show_list(client.items("services"), form, columns=_COLUMNS)

    with_client(home, act)


@command.command()
@options.record
@click.argument("name")
@_csr
@options.out("services")
def renew(home: Place, form: Form, *, name: str, csr: Path | None, out: Path | None) -> None:
    """Give a backend its next certificate, for a new key; the one before is good until its end.

    Both files are replaced in one step. With --csr, the certificate goes to standard output.
    """
    from fleet.cli import bearer  # noqa: PLC0415 - the cryptography, needed here only

    if csr is not None:
        body = {"csr": _request(csr)}
        made = with_client(home, lambda client: client.post("services", name, "renew", body=body))
        if form is Form.TABLE:
            write_text(str(made["certificate"]).rstrip("\n"))
        else:
            show_record(made, form, names=_NAMES)
        return
    files = _files(options.folder_of(home, out, "services"), name)
    if not files.certificate.exists():
        raise BadInputError(
            f"{files.certificate} is not there",
            hint=f"is there a backend {name}: fleet service list; if so, name its folder with --out",
        )
    renewed = with_client(home, lambda client: bearer.renew(client, "services", name, files=files))
    found: Members = {
        "service": name,
        "serial": renewed.serial,
        "not_after": renewed.not_after,
        "certificate": str(files.certificate),
        "key": str(files.key),
    }
    show_record(found, form, names=_NAMES)


@command.command()
@options.record
@options.reason
@click.argument("name")
def revoke(home: Place, form: Form, *, reason: str, name: str) -> None:
    """Take a backend's access back for good: its live sessions end now, its certificates are revoked."""
    body = {"reason": reason} if reason else {}
    found = with_client(home, lambda client: client.post("services", name, "revoke", body=body))
    show_record(found, form, names={"service": "revoked", "revoked": "certificates"})


def _files(folder: Path, name: str) -> KeyPairFiles:
    return KeyPairFiles(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")


def _request(file: Path | None) -> str:
    content = b"" if file is None else content_of(file)
    if not content.isascii():
        raise BadInputError(f"{file} is no CSR in PEM", hint="openssl req -new makes one")
    return content.decode("ascii")
