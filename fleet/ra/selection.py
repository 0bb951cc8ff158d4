"""What an operator names when certificates are taken back: devices, a serial, a lineage, a batch, a query."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from device_agent.wire.identity import Identity, parse_serial
from fleet.core.query import Query
from fleet.core.query_text import parse_query
from fleet.errors import BadInputError, NotFoundError
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.store.certificates import load_certificate
from fleet.store.devices import load_record
from fleet.store.inventory import DeviceQuery, count_devices, list_devices

_PAGE = 1000
_SAMPLE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ByDevice:
    """Devices by their names."""

    identities: tuple[Identity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BySerial:
    """A certificate; of a device's, the whole lineage, before it and after it."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ByQuery:
    """All devices that fit a query at a time."""

    query: Query
    now: datetime


Selection: TypeAlias = ByDevice | BySerial | ByQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Devices, and certificates that belong to none."""

    identities: tuple[Identity, ...] = ()
    serials: tuple[str, ...] = ()


def by_query(text: str, *, now: datetime) -> ByQuery:
    """Return the selection behind a query; raises `BadInputError` where it is none."""
    return ByQuery(query=parse_query(text), now=now)


async def find_targets(tx: Transaction, selection: Selection) -> Targets:
    """Return what a selection names now.

    Raises:
        NotFoundError: a device or certificate that it names is not there.
        BadInputError: a query selects everything, and does not say `all`.
    """
    match selection:
        case ByDevice(identities=identities):
            for identity in identities:
                if await load_record(tx, identity) is None:
                    raise NotFoundError(f"{identity.name} is not registered", hint="fleet device list")
            return Targets(identities=identities)
        case BySerial(serial=serial):
            row = await load_certificate(tx, parse_serial(serial))
            if row is None:
                raise NotFoundError(f"there is no certificate {serial}", hint="fleet cert list")
            if row.identity is not None:
                return Targets(identities=(row.identity,))
            return Targets(serials=(serial,))
        case ByQuery():
            return Targets(identities=await selected(tx, selection))


async def selected(tx: Transaction, selection: ByQuery) -> tuple[Identity, ...]:
    """Return the devices that fit a query.

    Raises:
        BadInputError: these are all that there are, and nobody said `all`.
    """
    found: list[Identity] = []
    page = DeviceQuery(condition=selection.query.condition, now=selection.now, limit=_PAGE)
    while summaries := await list_devices(tx, page):
        found += [summary.identity for summary in summaries]
        last = summaries[-1].identity
        page = replace(page, after=(last.domain, last.device_id))
    if not selection.query.says_all:
        await _refuse_everything(tx, len(found))
    return tuple(found)


async def count_selected(tx: Transaction, selection: ByQuery) -> int:
    """Return how many devices fit a query; raises as `selected` does."""
    asked = DeviceQuery(condition=selection.query.condition, now=selection.now)
    found = await count_devices(tx, asked)
    if not selection.query.says_all:
        await _refuse_everything(tx, found)
    return found


async def _refuse_everything(tx: Transaction, found: int) -> None:
    if found > 1 and found == await count_devices(tx, DeviceQuery()):
        raise BadInputError(
            f"the query selects all {found} devices of the fleet", hint='if that is meant, say so: "all"'
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an act on a query would be about."""

    devices: int
    fleet: int
    """How many devices there are at all."""
    sample: tuple[Identity, ...]


async def preview(desk: Desk, selection: ByQuery) -> Preview:
    """Return what a query selects, without an act; raises `BadInputError` for everything, unless said."""
    return await desk.store.search(_preview, selection)


async def _preview(tx: Transaction, selection: ByQuery) -> Preview:
    asked = DeviceQuery(condition=selection.query.condition, now=selection.now, limit=_SAMPLE)
    return Preview(
        devices=await count_selected(tx, selection),
        fleet=await count_devices(tx, DeviceQuery()),
        sample=tuple(each.identity for each in await list_devices(tx, asked)),
    )
