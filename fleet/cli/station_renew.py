"""`fleet station renew` at the station, and `fleet station certify` for one that cannot renew any more."""

import asyncio
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.wire.fields import time_text
from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.handed import content_of
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, say, show_record
from fleet.errors import BadInputError, RefusedError, UsageError
from fleet.files import PUBLIC_MODE, write_file

if TYPE_CHECKING:
    from fleet.station.own.identity import StationIdentity

_MOST_BYTES = 64 * 1024
_NAMES = {"station": "station", "serial": "certificate", "not_after": "good until", "request": "request"}


@click.command()
@options.record
@click.argument("station", required=False)
@click.option(
    "--request",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Ask no server: write the request of the next key there, for fleet station certify.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take in what fleet station certify answered to that request.",
)
def renew(
    home: Place, form: Form, *, station: str | None, request: Path | None, certificate: Path | None
) -> None:
    """At the station: renew its certificate now, with a key that is made here.

    A line that runs does so by itself, long before the end. Where that has come all the same, no server takes
    the certificate: --request, then fleet station certify at the server, then --certificate.
    """
    if request is not None and certificate is not None:
        raise UsageError("--request comes first, --certificate with what was answered", hint="one of both")
    following = ""
    if request is not None:
        found = _requested(home, station, request)
        following = f"next: fleet station certify {found['station']} --csr {request}"
    elif certificate is not None:
        found = _taken(home, station, certificate)
    else:
        found = asyncio.run(_renewed(home, station))
    show_record(found, form, names=_NAMES)
    if following and form is Form.TABLE:
        say(following)


def _requested(home: Place, station: str | None, request: Path) -> Members:
    from fleet.cli.workplace import place_of  # noqa: PLC0415 - the cryptography, needed here only
    from fleet.station.own.next_key import LABEL_RANDOMNESS, begin  # noqa: PLC0415 - as above

    place = place_of(home, station)
    key = begin(place.files, place.station, randomness=secrets.token_bytes(LABEL_RANDOMNESS))
    write_file(request, key.csr(place.station).encode(), mode=PUBLIC_MODE)
    return {"station": place.station, "request": str(request)}


def _taken(home: Place, station: str | None, certificate: Path) -> Members:
    from fleet.cli.workplace import place_of  # noqa: PLC0415 - as above
    from fleet.station.own.next_key import (  # noqa: PLC0415 - as above
        LABEL_RANDOMNESS,
        begin,
        is_begun,
        put_in_force,
    )
    from fleet.station.server.renewal import load_in_force, require_for  # noqa: PLC0415 - as above

    place, pem = place_of(home, station), _text(certificate, "fleet station certify makes one")
    if not is_begun(place.files):
        raise RefusedError(
            "no request was made here that it could answer", hint="fleet station renew --request FILE"
        )
    key = begin(place.files, place.station, randomness=secrets.token_bytes(LABEL_RANDOMNESS))
    require_for(key, pem, station=place.station)
    put_in_force(place.files, key, pem)
    return _shown(load_in_force(place.files))


async def _renewed(home: Place, station: str | None) -> Members:
    from contextlib import AsyncExitStack  # noqa: PLC0415 - as above

    from fleet.cli.station_renewing import nobody_else, now, renewal_of  # noqa: PLC0415 - as above
    from fleet.cli.workplace import place_of  # noqa: PLC0415 - as above
    from fleet.station.server.renewal import require_in_date  # noqa: PLC0415 - as above

    place = place_of(home, station)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.served())
        renewal = await renewal_of(stack, place)
        if place.home is None:
            require_in_date(renewal.identity, now=now())
        return _shown(await renewal.renew(nobody_else))


def _text(file: Path, hint: str) -> str:
    content = content_of(file)
    if len(content) > _MOST_BYTES or not content.isascii():
        raise BadInputError(f"{file} is no PEM", hint=hint)
    return content.decode("ascii")


def _shown(identity: "StationIdentity") -> Members:
    return {"station": identity.name, "serial": identity.serial, "not_after": time_text(identity.ends)}


@click.command()
@options.record
@click.argument("station")
@click.option("--csr", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Its request.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="[NAME.crt, here]")
def certify(home: Place, form: Form, *, station: str, csr: Path, out: Path | None) -> None:
    """Certify another key of a station, whose certificate has ended or whose key was lost.

    Make sure that the request is the station's: whoever has its key is that station. The certificate before
    ends when the station has used this one.
    """
    target = out or Path(f"{options.domain_name(station)}.crt")
    if target.exists():
        raise RefusedError(f"{target} is there already", hint="choose another --out")
    body: Members = {"csr": _text(csr, "fleet station renew --request makes one")}
    made = with_client(home, lambda client: client.post("stations", station, "certify", body=body))
    write_file(target, str(made["certificate"]).encode(), mode=PUBLIC_MODE)
    names = {"station": "station", "serial": "serial", "certificate": "certificate"}
    show_record({**made, "certificate": str(target)}, form, names=names)
    if form is Form.TABLE:
        say(f"next, at the station: fleet station renew --certificate {target.name}")


COMMANDS = (renew, certify)
