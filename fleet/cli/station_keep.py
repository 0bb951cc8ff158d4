"""`fleet station add`, `list`, `change`, `revoke`: who a station is, and what it may do.

A station's key is made by the command that adds it, in a file or in a token, and never sent anywhere.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, show_record, write_json
from fleet.cli.station_key import StationKey, key_in_file, key_in_token, request_of_file
from fleet.errors import NotFoundError
from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.home import KeyPairFiles

_Function = TypeVar("_Function", bound=Callable[..., None])

_COLUMNS = (
    Column(title="STATION", member="station", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="BATCHES", member="batches"),
    Column(title="QUOTAS", member="quotas"),
    Column(title="SYNCED", member="synced_at"),
    Column(title="CLOSED", member="closed_at"),
)
_NAMES = {
    "station": "station",
    "domain": "domain",
    "batches": "batches",
    "quotas": "quotas",
    "serials": "serial numbers",
    "shifts": "shifts",
    "rate": "units a minute",
    "certificate": "certificate",
    "key": "key",
}


_BATCH = "A batch that it may enroll; may be repeated."
_ADDED = click.option("--batch", "batches", multiple=True, required=True, metavar="NAME", help=_BATCH)
_CHANGED = click.option(
    "--batch", "batches", multiple=True, metavar="NAME", help=f"{_BATCH} Then these are all that it has."
)
_RATE = click.option("--rate", type=click.IntRange(1), metavar="N", help="Units a minute at most.")
_OTHER_RATE = click.option(
    "--rate", type=click.IntRange(0), metavar="N", help="Units a minute at most; 0 for any number."
)


def _rules(function: _Function) -> _Function:
    """Give a command the options of a station's rules that all of them take alike."""
    for option in reversed(
        (
            click.option(
                "--quota", "quotas", multiple=True, metavar="BATCH=N", help="Units of a batch at most."
            ),
            click.option(
                "--serials",
                multiple=True,
                metavar="BATCH=A..B",
                help="Device ids of a batch, such as spring=spring-0001..spring-5000; may be repeated.",
            ),
            click.option(
                "--shift",
                "shifts",
                multiple=True,
                metavar="WHEN",
                help="When it works, such as 'mon-fri 06:00-14:00 Europe/Berlin'; may be repeated.",
            ),
        )
    ):
        function = option(function)
    return function


def _body(
    batches: tuple[str, ...],
    quotas: tuple[str, ...],
    serials: tuple[str, ...],
    shifts: tuple[str, ...],
    rate: int | None,
) -> dict[str, str | int | list[str] | None]:
    return {
        "batches": list(batches),
        "quotas": list(quotas),
        "serials": list(serials),
        "shifts": list(shifts),
        **({} if rate is None else {"rate": rate}),
    }


@click.command()
@options.record
@options.domain
@click.argument("name")
@_ADDED
@_rules
@_RATE
@click.option(
    "--csr",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The request of a key that the station made itself.",
)
@click.option("--token", metavar="URI", help="Make the key in this PKCS#11 token, by its URI without a PIN.")
@options.out("stations")
def add(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    name: str,
    batches: tuple[str, ...],
    quotas: tuple[str, ...],
    serials: tuple[str, ...],
    shifts: tuple[str, ...],
    rate: int | None,
    csr: Path | None,
    token: str | None,
    out: Path | None,
) -> None:
    """Add a station: its key is made here, the server certifies it.

    With --csr the key is where the request was made, and only the certificate is written.
    """
    options.domain_name(name)
    folder = options.folder_of(home, out, "stations")
    files = KeyPairFiles(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")
    rules = _body(batches, quotas, serials, shifts, rate)
    body = {**rules, "name": name, "domain": options.domain_of(home, domain)}
    with _key(name, files, csr=csr, token=token) as key:
        made = with_client(home, lambda client: client.post("stations", body={**body, "csr": key.csr}))
    make_folder(folder)
    write_file(files.certificate, str(made["certificate"]).encode(), mode=PUBLIC_MODE)
    found: Members = {**made, "certificate": str(files.certificate), "key": key.place}
    if form is not Form.TABLE:
        write_json(found)
        return
    show_record({name: value for name, value in found.items() if value not in (None, [])}, form, names=_NAMES)
    stays_here = out is None and csr is None and isinstance(home, Path)
    place = files.key if csr is not None else Path(key.place)
    say(f"next: {_next_here(name) if stays_here else _next_elsewhere(name, place)}")


def _next_here(name: str) -> str:
    return f"fleet station run --station {name} --port /dev/ttyUSB0"


def _next_elsewhere(name: str, key: Path) -> str:
    pair = f"--operator-cert {name}.crt --operator-key {key.name}"
    return f"at the station, fleet --server URL {pair} --trust server.pem station run --port /dev/ttyUSB0"


def _key(
    name: str, files: KeyPairFiles, *, csr: Path | None, token: str | None
) -> AbstractContextManager[StationKey]:
    if csr is not None:
        return request_of_file(csr)
    return key_in_file(name, files) if token is None else key_in_token(name, files, token)


@click.command("list")
@options.listing
@options.domain
def list_stations(home: Place, form: Form, *, domain: str | None) -> None:
    """List the stations."""

    def act(client: Client) -> None:
        found = client.items("stations", domain=domain)
        show_list(found, form, columns=_COLUMNS, empty="no stations; fleet station add makes one")

    with_client(home, act)


@click.command()
@options.record
@click.argument("name")
def show(home: Place, form: Form, *, name: str) -> None:
    """Show a station, and what it may do."""
    show_record(with_client(home, lambda client: _found(client, name)), form, names=_NAMES)


@click.command()
@options.record
@click.argument("name")
@_CHANGED
@_rules
@_OTHER_RATE
def change(
    home: Place,
    form: Form,
    *,
    name: str,
    batches: tuple[str, ...],
    quotas: tuple[str, ...],
    serials: tuple[str, ...],
    shifts: tuple[str, ...],
    rate: int | None,
) -> None:
    """Change what is named of a station's rules; all else stays, and what it used of a quota stays counted.

    BATCH=none takes a quota or the serial numbers of a batch away, --shift none the shifts.
    """
    named = _body(batches, quotas, serials, shifts, rate)
    body = {name: value for name, value in named.items() if value != []}
    found = with_client(home, lambda client: client.post("stations", name, "rules", body=body))
    show_record(found, form, names=_NAMES)


@click.command()
@options.record
@options.reason
@click.argument("name")
def revoke(home: Place, form: Form, *, reason: str, name: str) -> None:
    """Close a station for good and revoke its certificates: its next request is refused.

    What it made stays as it is; fleet cert revoke --batch ends that too.
    """
    body = {"reason": reason} if reason else {}
    found = with_client(home, lambda client: client.post("stations", name, "revoke", body=body))
    show_record(found, form, names={"station": "closed", "revoked": "revoked"})


@click.command("new-journal")
@options.record
@click.argument("name")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the audit trail.")
def new_journal(home: Place, form: Form, *, name: str, reason: str) -> None:
    """Let a station begin its journal anew: its disk was lost, or replaced by an older copy.

    What it handed in before is kept and counted. What it had not handed in is never let in.
    """
    body = {"reason": reason}
    found = with_client(home, lambda client: client.post("stations", name, "journal", body=body))
    show_record(found, form, names={"station": "a new journal is taken from"})


def _found(client: Client, name: str) -> Members:
    for station in client.items("stations"):
        if station["station"] == name:
            return station
    raise NotFoundError(f"there is no station {name}", hint="fleet station list")


COMMANDS = (add, list_stations, show, change, revoke, new_journal)
