"""Reads the logs of relying parties for refused certificates: those of this machine, and lines shipped here.

What was found is kept in the commit that says how far the log was read: nothing is lost, or counts twice.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from fleet.core.causes import CANARY, Cause
from fleet.core.history import Contact, contact, gathered
from fleet.core.log_lines import Finding, Product, Reader, Zone, time_of
from fleet.core.log_readers import feed, reader_of
from fleet.errors import FleetError, log_level
from fleet.log import Event, about
from fleet.log_following import read_on
from fleet.model import BrokerEventKind
from fleet.ra.context import Context
from fleet.ra.history import recognised
from fleet.store.log_places import LogPlace, ReadLines, Shipped, keep_read, keep_shipped, place_of
from fleet.watching_sections import WatchedLog

BROKER_LOG = "mosquitto"
"""The place of what our own Mosquitto writes: the guard's, which sees nobody whom TLS refused."""
_LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Lines that somebody ships; `id` is his, and names them for good."""

    shipper: str
    log: str
    id: str
    product: Product
    east_of_utc: timedelta
    lines: Sequence[bytes]

    @property
    def place(self) -> str:
        """How the history calls where it was seen."""
        return f"ship:{self.shipper}/{self.log}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a batch."""

    found: int
    repeated: bool


async def take_batch(context: Context, batch: Batch) -> Taken:
    """Keep the refusals that a batch of lines tells of, once."""
    reader = context.readers.of(batch.place, batch.product)
    zone = Zone(now=context.clock(), east_of_utc=batch.east_of_utc)
    async with context.readers.turn:
        findings = await asyncio.to_thread(_findings, reader, batch.lines)
    found = _contacts(findings, place=batch.place, zone=zone)
    rows = gathered(await context.store.read(recognised, found))
    shipped = Shipped(shipper=batch.shipper, batch=batch.id, at=zone.now, found=rows)
    is_new = await context.store.write(keep_shipped, shipped)
    if is_new:
        context.history.count(found)
    return Taken(found=len(found) if is_new else 0, repeated=not is_new)


async def follow_logs(context: Context) -> None:
    """Follow the logs that the configuration names, and our own Mosquitto's, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for log in context.config.monitor.logs:
            group.create_task(_follow(context, log, place=f"log:{log.name}"))
        if context.driver == BROKER_LOG:
            own = WatchedLog(
                name=".broker", product=Product.MOSQUITTO, file=context.home.broker / "mosquitto.log"
            )
            group.create_task(_follow(context, own, place=BROKER_LOG))


async def _follow(context: Context, log: WatchedLog, *, place: str) -> None:
    reader, told = reader_of(log.product), ""
    while True:
        try:
            more = await _read(context, log, reader, place)
            told = ""
        except (FleetError, OSError) as error:
            more, why = False, str(error)
            if why != told:
                level = log_level(error) if isinstance(error, FleetError) else logging.WARNING
                unreadable = about(Event.LOG_UNREADABLE, place=place)
                _log.log(level, "the log %s cannot be followed: %s", log.file, why, extra=unreadable)
            told = why
        if not more:
            await asyncio.sleep(_LOOK_SECONDS)


async def _read(context: Context, log: WatchedLog, reader: Reader, place: str) -> bool:
    """Read what is new; say whether there was something."""
    known = await context.store.read(place_of, log.name)
    chunk = await asyncio.to_thread(read_on, log.file, beginning=known.beginning, position=known.position)
    if chunk is None:
        return False
    findings = await asyncio.to_thread(_findings, reader, chunk.lines)
    if place == BROKER_LOG:
        findings = [one for one in findings if not _is_known_already(one)]
    now = context.clock()
    here = now.astimezone().utcoffset() or timedelta()
    found = _contacts(findings, place=place, zone=Zone(now=now, east_of_utc=here))
    rows = gathered(await context.store.read(recognised, found))
    reached = LogPlace(beginning=chunk.beginning, position=chunk.position)
    await context.store.write(keep_read, ReadLines(log=log.name, place=reached, found=rows))
    context.history.count(found)
    return True


def _is_known_already(finding: Finding) -> bool:
    """Tell what the guard has told itself, and the canaries that we show to our own broker."""
    is_canary = finding.address in {CANARY, "::1"} and finding.cause is Cause.NOT_VERIFIED
    return finding.cause is Cause.NOT_ADMITTED or is_canary


def _findings(reader: Reader, lines: Iterable[bytes]) -> list[Finding]:
    found: list[Finding] = []
    for line in lines:
        try:
            finding = feed(reader, line)
        except Exception as error:  # noqa: BLE001 - a stranger had a hand in this line: it must not end the watch
            _log.error("a line of a log could not be read, and was left out: %s", type(error).__name__)
            continue
        if finding is not None:
            found.append(finding)
    return found


def _contacts(findings: Iterable[Finding], *, place: str, zone: Zone) -> tuple[Contact, ...]:
    return tuple(
        contact(
            kind=BrokerEventKind.REFUSED,
            place=place,
            at=time_of(finding, zone),
            cause=finding.cause,
            subject=finding.subject,
            serial=finding.serial,
            address=finding.address,
        )
        for finding in findings
    )
