"""Runs a station in its home: the server by its socket, or a service of its own where no server runs."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.cli import bearer
from fleet.cli.client import Client, is_served
from fleet.cli.lanes import Shown
from fleet.config import load
from fleet.errors import BadInputError, FleetError, UnreachableError
from fleet.files import telling
from fleet.home import Home, KeyPairFiles
from fleet.model import Purpose
from fleet.pair_files import in_force
from fleet.station.authority import AdminSocket, HttpEnroller
from fleet.station.identity import StationIdentity
from fleet.station.ids import IdRule
from fleet.station.ledger import Ledger
from fleet.station.runner import Station

_RENEWAL_SECONDS = 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Which station works on which ports."""

    home: Home
    station: str
    ports: tuple[str, ...]
    ids: IdRule
    baud: int


async def run_line(line: Line, shown: Shown) -> None:
    """Serve the ports until SIGTERM or SIGINT.

    Raises:
        FleetError: the station cannot start, with what to do.
    """
    files = line.home.station(line.station)
    pair = in_force(files)
    identity = StationIdentity.load(pair.certificate, pair.key)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = AdminSocket(path=line.home.admin_socket, station=line.station)
    async with (
        _server(line.home),
        Ledger.opened(files.key.with_suffix(".db"), clock=_now, identity=identity) as ledger,
        HttpEnroller.opened(server, servers=_anchors(line.home)) as enroller,
    ):
        station = Station(identity=identity, ledger=ledger, enroller=enroller, ids=line.ids, baud=line.baud)
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(_stay_renewed(station, line))
            await _until(ended, station, line, shown)
            renewing.cancel()


async def _stay_renewed(station: Station, line: Line) -> None:
    """Renew the station's certificate when it is time; a unit being served ends with the one before."""
    files = line.home.station(line.station)
    while True:
        try:
            if bearer.is_due(bearer.read_certificate(files.certificate), Purpose.STATION, now=_now()):
                station.take(await asyncio.to_thread(_renewed, line, files))
                _log.info("the certificate of station %s was renewed", line.station)
        except FleetError as error:
            _log.warning("the certificate of station %s was not renewed: %s", line.station, error)
        await asyncio.sleep(_RENEWAL_SECONDS)


def _renewed(line: Line, files: KeyPairFiles) -> StationIdentity:
    client = Client(line.home.admin_socket)
    made = bearer.renew(client, "stations", line.station, files=files)
    pair = in_force(files)
    identity = StationIdentity.load(pair.certificate, pair.key)
    client.post("stations", line.station, "renewed", body={"serial": made.serial})
    return identity


async def _until(ended: asyncio.Event, station: Station, line: Line, shown: Shown) -> None:
    async with asyncio.TaskGroup() as group:
        working = group.create_task(station.run(line.ports, report=shown.report))
        drawing = group.create_task(shown.refresh())
        ending = group.create_task(ended.wait())
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        for task in (working, drawing, ending):
            task.cancel()


@asynccontextmanager
async def _server(home: Home) -> AsyncIterator[None]:
    """Use the server that runs, or be one as long as the station works."""
    if is_served(home):
        yield
        return
    if load(home.config).server.mqtt_port == 0:
        raise UnreachableError(
            "devices must be told a port, and fleet.toml leaves it to the server", hint="fleet serve"
        )
    from fleet.service import Listeners, running  # noqa: PLC0415 - the whole server, seldom needed here

    async with running(home.root, listeners=Listeners.ADMIN_ONLY):
        yield


def _anchors(home: Home) -> tuple[bytes, ...]:
    """Return what devices trust servers by, DER."""
    with telling(home.server_trust):
        content = home.server_trust.read_bytes()
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise BadInputError(f"{home.server_trust} holds no certificate", hint="restore it") from error
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def _now() -> datetime:
    return datetime.now(UTC)
