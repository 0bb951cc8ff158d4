"""Runs a station in its home: the server by its socket, or a service of its own where no server runs."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.cli.client import is_served
from fleet.cli.lanes import Report
from fleet.config import load
from fleet.errors import BadInputError, UnreachableError
from fleet.files import telling
from fleet.home import Home
from fleet.station.authority import AdminSocket, HttpEnroller
from fleet.station.identity import StationIdentity
from fleet.station.ids import IdRule
from fleet.station.ledger import Ledger
from fleet.station.runner import Station


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Which station works on which ports."""

    home: Home
    station: str
    ports: tuple[str, ...]
    ids: IdRule
    baud: int


async def run_line(line: Line, report: Report) -> None:
    """Serve the ports until SIGTERM or SIGINT.

    Raises:
        FleetError: the station cannot start, with what to do.
    """
    files = line.home.station(line.station)
    identity = StationIdentity.load(files.certificate, files.key)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = AdminSocket(path=line.home.admin_socket, station=line.station)
    async with (
        _server(line.home),
        Ledger.opened(files.key.with_suffix(".db"), clock=_now) as ledger,
        HttpEnroller.opened(server, servers=_anchors(line.home)) as enroller,
    ):
        station = Station(identity=identity, ledger=ledger, enroller=enroller, ids=line.ids, baud=line.baud)
        await _until(ended, station, line, report)


async def _until(ended: asyncio.Event, station: Station, line: Line, report: Report) -> None:
    async with asyncio.TaskGroup() as group:
        working = group.create_task(station.run(line.ports, report=report))
        ending = group.create_task(ended.wait())
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        ending.cancel()


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
