"""Runs a station: puts its parts together, and lets it work until it is told to end."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from device_agent.wire.code_text import WrittenCode
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret
from fleet.cli.lanes import Shown
from fleet.cli.scanning import typed_lines
from fleet.cli.station_renewing import renewing
from fleet.cli.workplace import Workplace
from fleet.errors import FleetError, RefusedError
from fleet.station.drivers.choice import Drivers
from fleet.station.keeping.lease_files import open_workshop
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.workshop import Workshop
from fleet.station.line.gate import Gate
from fleet.station.line.hotplug import UsbRule, watched
from fleet.station.line.jig import Jig
from fleet.station.line.scanner import Kind, Labels, Scan, Use, parse_scan
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.runner import Station
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.renewal import Renewal
from fleet.station.telling.book import Book
from fleet.station.telling.deliveries import Courier
from fleet.station.telling.outlets import Outlets
from fleet.station.telling.printer import LabelPrinter
from fleet.station.telling.result_file import ResultFile
from fleet.station.telling.result_hook import ResultHook

_LOOK_SECONDS = 2.0
"""A certificate that was renewed by hand meanwhile is found as soon."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Where results are posted, and what they are signed with."""

    url: str
    secret: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Which station works on which ports, and what belongs to its line."""

    place: Workplace
    ports: tuple[str, ...]
    usb: tuple[UsbRule, ...] = ()
    ids: IdRule
    batch: str = ""
    models: frozenset[str] = frozenset()
    baud: int
    drivers: Drivers | None = None
    scanner: Use | None = None
    jig: Jig | None = None
    results: ResultFile | None = None
    hook: Hook | None = None
    printer: LabelPrinter | None = None


async def run_line(line: Line, shown: Shown) -> None:
    """Serve the ports until SIGTERM or SIGINT.

    Raises:
        FleetError: the station cannot start, with what to do.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(line.place.served())
        renewal = await renewing(stack, line.place)
        labels = None if line.scanner is None else Labels(use=line.scanner)
        station = await _station(stack, line, shown, renewal, labels)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(station.run(line.ports, report=shown.report, plugged=_plugged(line))),
                group.create_task(ended.wait()),
                group.create_task(shown.refresh()),
                group.create_task(_stay_renewed(station, renewal)),
            ]
            if labels is not None:
                tasks.append(group.create_task(_serve_scanner(labels, station.clerk, shown)))
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()


def _plugged(line: Line) -> AsyncIterator[frozenset[str]] | None:
    return watched(line.usb) if line.usb else None


async def _station(
    stack: AsyncExitStack, line: Line, shown: Shown, renewal: Renewal, labels: Labels | None
) -> Station:
    place, identity = line.place, renewal.identity
    ledger = await stack.enter_async_context(Ledger.opened(place.ledger, clock=_now, identity=identity))
    enroller = HttpEnroller(renewal.way, servers=place.anchors)
    book = await stack.enter_async_context(Book.opened(place.book, clock=_now))
    return Station(
        identity=identity,
        ledger=ledger,
        enroller=enroller,
        ids=line.ids,
        batch=line.batch,
        recaller=enroller,
        workshop=await _workshop(ledger, identity, place),
        drivers=line.drivers,
        baud=line.baud,
        gate=Gate(book=book, labels=labels, jig=line.jig, models=line.models),
        outlets=Outlets(book=book, couriers=await _couriers(stack, line), tell=shown.count),
    )


async def _workshop(ledger: Ledger, identity: StationIdentity, place: Workplace) -> Workshop | None:
    """Return what signs off line; a lease of a CA that this station has left is no reason to stand still."""
    try:
        return await open_workshop(ledger, identity, key=place.files.key, servers=place.anchors)
    except RefusedError as error:
        _log.warning("nothing is signed off line: %s; %s", error, error.hint)
        return None


async def _couriers(stack: AsyncExitStack, line: Line) -> tuple[Courier, ...]:
    found: list[Courier] = []
    if line.results is not None:
        found.append(line.results)
    if line.hook is not None:
        hook = ResultHook.opened(line.hook.url, secret=line.hook.secret, clock=_now)
        found.append(await stack.enter_async_context(hook))
    if line.printer is not None:
        found.append(line.printer)
    return tuple(found)


async def _serve_scanner(labels: Labels, clerk: Clerk, shown: Shown) -> None:
    """Take what the scanner types, and say on the screen what came of it."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    with typed_lines(lines.put_nowait):
        while True:
            scan = labels.take(parse_scan(await lines.get()))
            match scan.kind:
                case Kind.BADGE:
                    await _sign_on(scan, clerk, shown)
                case Kind.CODE:
                    _take_code(scan, clerk, shown)
                case Kind.LANE:
                    shown.say("lane_chosen", number=scan.lane)
                case Kind.LABEL if scan.lane:
                    shown.say("scanned_for", label=scan.text, number=scan.lane)
                case Kind.LABEL:
                    shown.say("scanned", label=scan.text)
                case Kind.UNKNOWN:
                    shown.say("unknown_code", code=scan.text)


def _take_code(scan: Scan, clerk: Clerk, shown: Shown) -> None:
    """Take an operator's code for the unit that it names; the screen shows whose it is, and no more."""
    try:
        written = WrittenCode.parse(scan.text)
    except MalformedMessageError:
        written = None
    if written is None or written.identity is None:
        shown.say("unknown_code", code="CODE")
        return
    clerk.take_code(written.code, device_id=written.identity.device_id)
    shown.say("scanned", label=written.identity.device_id)


async def _sign_on(scan: Scan, clerk: Clerk, shown: Shown) -> None:
    try:
        name = await clerk.sign_on(Secret(scan.text))
    except FleetError as error:
        _log.warning("nobody could sign on: %s", error)
        name = None
    if name is None:
        # The badge itself is shown to nobody.
        shown.say("unknown_code", code="BADGE")
    else:
        shown.say("signed_on", operator=name)


async def _stay_renewed(station: Station, renewal: Renewal) -> None:
    """Renew the station's certificate when it is time; a unit being served ends with the one before."""
    while True:
        try:
            if await renewal.look(station.take):
                _log.info("the station's certificate was renewed")
        except FleetError as error:
            _log.warning("the station's certificate was not renewed: %s", error)
        await asyncio.sleep(_LOOK_SECONDS)


def _now() -> datetime:
    return datetime.now(UTC)
