"""What an operator names when certificates are taken back: devices, a serial, a lineage, a batch, a query."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from device_agent.wire.identity import Identity, parse_domain, parse_serial
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import BadInputError, NotFoundError
from fleet.model import Standing
from fleet.ports import Transaction
from fleet.store.certificates import load_certificate
from fleet.store.devices import load_record
from fleet.store.inventory import DeviceQuery, list_devices

_PAGE = 500


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
    """All devices that a list would show."""

    query: DeviceQuery


Selection: TypeAlias = ByDevice | BySerial | ByQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Devices, and certificates that belong to none."""

    identities: tuple[Identity, ...] = ()
    serials: tuple[str, ...] = ()


def parse_query(text: str) -> ByQuery:
    """Return the selection behind `key=value` terms: domain, batch, prefix (of the id), standing.

    All terms must hold; an empty query would select the whole fleet, and is refused.

    Raises:
        BadInputError: a term is unknown, twice there, or nothing is asked for.
    """
    known: dict[str, str] = {}
    for term in text.split():
        key, equals, value = term.partition("=")
        if not equals or not value or key not in _TERMS or key in known:
            raise BadInputError(f"{term!r} is no term of a query", hint=f"such as {' '.join(_EXAMPLES)}")
        known[key] = value
    if not known:
        raise BadInputError("the query is empty", hint=f"such as {' '.join(_EXAMPLES)}")
    try:
        standing = Standing(known["standing"]) if "standing" in known else None
        domain = parse_domain(known["domain"]) if "domain" in known else ""
    except (ValueError, MalformedMessageError) as error:
        raise BadInputError(
            f"the query is not right: {error}", hint=f"standing: {', '.join(Standing)}"
        ) from error
    return ByQuery(
        query=DeviceQuery(
            domain=domain,
            batch=known.get("batch", ""),
            prefix=known.get("prefix", ""),
            standing=standing,
        )
    )


_TERMS = ("domain", "batch", "prefix", "standing")
_EXAMPLES = ("domain=prod", "batch=b1", "prefix=line3-", "standing=suspended")


async def find_targets(tx: Transaction, selection: Selection) -> Targets:
    """Return what a selection names now.

    Raises:
        NotFoundError: a device or certificate that it names is not there.
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
        case ByQuery(query=query):
            return Targets(identities=await _all(tx, query))


async def _all(tx: Transaction, query: DeviceQuery) -> tuple[Identity, ...]:
    found: list[Identity] = []
    page = replace(query, limit=_PAGE)
    while summaries := await list_devices(tx, page):
        found += [summary.identity for summary in summaries]
        last = summaries[-1].identity
        page = replace(page, after=(last.domain, last.device_id))
    return tuple(found)
