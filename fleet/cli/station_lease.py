"""`fleet station lease ...`: what a station may sign while its server is away.

Three steps: the station makes the key of its CA and a request, an operator grants the lease, the station
takes it.
"""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.handed import content_of
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, show_record, write_json
from fleet.files import PUBLIC_MODE, write_file

if TYPE_CHECKING:
    from fleet.core.lease import SignedLease

_COLUMNS = (
    Column(title="LEASE", member="lease", whole=True),
    Column(title="STATION", member="station"),
    Column(title="BATCH", member="batch"),
    Column(title="UNITS", member="units"),
    Column(title="USED", member="used"),
    Column(title="UNTIL", member="not_after"),
    Column(title="CLOSED", member="closed_at"),
)
_NAMES = {
    "lease": "lease",
    "station": "station",
    "batch": "batch",
    "units": "units",
    "used": "used",
    "not_after": "until",
    "file": "file",
}


@click.group("lease")
def command() -> None:
    """Leases: certificates that a station may sign itself while the server is away."""


@command.command()
@options.record
@click.argument("station")
@click.option("--token", metavar="URI", help="Make the key in this PKCS#11 token, by its URI without a PIN.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write the request [STATION-ca.csr beside the station's key].",
)
def request(home: Place, form: Form, *, station: str, token: str | None, out: Path | None) -> None:
    """At the station: make the key of its CA, and a request for a lease.

    The key goes into an encrypted file, or into a token. A lease that is in use stays so until the next one
    is taken.
    """
    from fleet.cli.workplace import place_of  # noqa: PLC0415 - the station's parts, needed here only
    from fleet.station.keeping.lease_files import LeaseFiles, make_authority_key  # noqa: PLC0415 - as above

    files = LeaseFiles.beside(place_of(home, station).files.key)
    csr = make_authority_key(files, station, token=token, randomness=os.urandom(64))
    target = out or files.key.with_suffix(".csr")
    write_file(target.absolute(), csr.encode(), mode=PUBLIC_MODE)
    if form is not Form.TABLE:
        write_json({"station": station, "file": str(target)})
    say(f"next: fleet station lease grant {station} --batch NAME --units N --csr {target}")


@command.command()
@options.record
@click.argument("station")
@click.option("--batch", required=True, metavar="NAME", help="Of which the units are.")
@click.option("--units", type=click.IntRange(1), required=True, metavar="N", help="How many at most.")
@click.option("--days", type=click.IntRange(1, 90), default=7, metavar="N", help="For how long [7].")
@click.option(
    "--csr",
    type=click.Path(path_type=Path, allow_dash=True),
    required=True,
    metavar="FILE",
    help="The request that the station made.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it [STATION.lease]."
)
def grant(
    home: Place,
    form: Form,
    *,
    station: str,
    batch: str,
    units: int,
    days: int,
    csr: Path,
    out: Path | None,
) -> None:
    """Grant a station a lease; its units are counted against the quota now."""
    request_pem = content_of(csr).decode("ascii", "replace")
    body: Members = {"batch": batch, "units": units, "days": days, "csr": request_pem}
    found = with_client(home, lambda client: client.post("stations", station, "lease", body=body))
    target = out or Path(f"{station}.lease")
    write_file(target.absolute(), str(found["signed"]).encode(), mode=PUBLIC_MODE)
    shown = {name: value for name, value in found.items() if name != "signed"}
    show_record({**shown, "file": str(target)}, form, names=_NAMES)
    if form is Form.TABLE:
        say(f"next, at the station: fleet station lease take {station} {target}")


@command.command()
@options.record
@click.argument("station")
@click.argument("lease", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE")
def take(home: Place, form: Form, *, station: str, lease: Path) -> None:
    """At the station: verify a lease, and sign under it from now on while the server is away."""
    from fleet.station.keeping.lease_files import read_lease  # noqa: PLC0415 - the cryptography, needed here only

    signed = read_lease(content_of(lease))
    show_record(asyncio.run(_take(home, station, signed)), form, names=_NAMES)


async def _take(home: Place, station: str, signed: "SignedLease") -> Members:
    from fleet.cli.bearer import utc_now  # noqa: PLC0415 - as above
    from fleet.cli.workplace import place_of  # noqa: PLC0415 - as above
    from fleet.pair_files import in_force  # noqa: PLC0415 - as above
    from fleet.station.keeping.lease_files import LeaseFiles, take_lease  # noqa: PLC0415 - as above
    from fleet.station.keeping.ledger import Ledger  # noqa: PLC0415 - as above
    from fleet.station.own.identity import StationIdentity  # noqa: PLC0415 - as above

    place = place_of(home, station)
    pair = in_force(place.files)
    identity = StationIdentity.load(pair.certificate, pair.key)
    async with Ledger.opened(place.ledger, clock=utc_now, identity=identity) as ledger:
        workshop = await take_lease(
            ledger, signed, identity=identity, files=LeaseFiles.beside(place.files.key)
        )
    lease = workshop.lease
    return {
        "lease": lease.lease,
        "station": lease.station,
        "batch": lease.batch,
        "units": lease.count,
        "not_after": f"{lease.not_after:%Y-%m-%dT%H:%M:%SZ}",
    }


@command.command("list")
@options.listing
@click.option("--station", metavar="NAME", help="Of this station alone.")
def list_leases(home: Place, form: Form, *, station: str | None) -> None:
    """List leases; USED counts what stations handed in."""

    def act(client: Client) -> None:
        found = client.items("stations", "leases", station=station)
        show_list(found, form, columns=_COLUMNS, empty="no leases; fleet station lease grant makes one")

    with_client(home, act)


@command.command()
@options.record
@click.argument("lease")
def close(home: Place, form: Form, *, lease: str) -> None:
    """Close a lease for good: nothing that comes under it later is admitted, and the rest is given back."""
    lease = options.serial(lease)
    found = with_client(home, lambda client: client.post("stations", "leases", lease, "close", body={}))
    show_record(found, form, names={**_NAMES, "closed_at": "closed"})
