"""Lists of devices, page by page: by domain and id, never by offset, which costs more on every page."""

from dataclasses import dataclass, replace
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.query import Condition, Every, Everything, Pattern, TextTerm
from fleet.model import Alarm, CertificateState, ClientKind, Standing
from fleet.ports import Row, Transaction
from fleet.store import columns, search_ways, times
from fleet.store.groups import asked_groups
from fleet.store.search import STANDING
from fleet.store.search_ways import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceQuery:
    """Which devices to list; what is empty or None does not restrict."""

    domain: str = ""
    prefix: str = ""
    """Of the device id."""
    batch: str = ""
    standing: Standing | None = None
    condition: Condition | None = None
    """Of a query (`fleet.core.query`)."""
    now: datetime | None = None
    """What durations of the condition count from; one that has some needs it."""
    after: tuple[str, str] = ("", "")
    """Domain and id of the last one of the page before."""
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSummary:
    """One line of a list."""

    identity: Identity
    kind: ClientKind
    standing: Standing
    alarm: Alarm
    batch: str | None
    serial: str | None
    """Of the current certificate."""
    state: CertificateState | None
    not_after: datetime | None
    registered_at: datetime
    last_seen_at: datetime | None


_COLUMNS = (
    f"d.kind, {STANDING}, d.alarm, d.batch, c.serial, c.state, c.not_after, d.registered_at, d.last_seen_at"
)


async def list_devices(tx: Transaction, query: DeviceQuery) -> tuple[DeviceSummary, ...]:
    """Return a page of devices, by domain and id."""
    search = await _search(tx, query)
    found = search_ways.page(_COLUMNS, search, await search_ways.choose(tx, search))
    return tuple(_summary(row) for row in await tx.fetch_all(found.text, found.values))


async def count_devices(tx: Transaction, query: DeviceQuery) -> int:
    """Return how many devices a query finds, on whatever page it stands."""
    search = replace(await _search(tx, query), after=("", ""))
    found = search_ways.count(search, await search_ways.choose(tx, search))
    row = await tx.fetch_one(found.text, found.values)
    return 0 if row is None else columns.number(row[0])


async def _search(tx: Transaction, query: DeviceQuery) -> Search:
    condition = await asked_groups(tx, _condition(query))
    return Search(condition=condition, now=query.now, after=query.after, limit=query.limit)


def _condition(query: DeviceQuery) -> Condition:
    texts = (("domain", query.domain), ("batch", query.batch), ("standing", query.standing or ""))
    terms: list[Condition] = [
        TextTerm(field=name, pattern=Pattern(parts=(text,))) for name, text in texts if text
    ]
    if query.prefix:
        terms.append(TextTerm(field="id", pattern=Pattern(parts=(query.prefix, ""))))
    return Every(conditions=(*terms, query.condition or Everything()))


async def count_by_standing(tx: Transaction, domain: str) -> tuple[tuple[Standing, int], ...]:
    """Return how many devices stand how, in a domain, or in all, if it is empty."""
    rows = await tx.fetch_all(
        f"SELECT {STANDING} AS standing, COUNT(*)"
        " FROM devices d LEFT JOIN certificates c ON c.serial = d.current_serial"
        " WHERE ? IN ('', d.domain) GROUP BY standing",
        (domain,),
    )
    counts = {Standing(columns.text(standing)): columns.number(count) for standing, count in rows}
    return tuple((standing, counts[standing]) for standing in Standing if standing in counts)


def _summary(row: Row) -> DeviceSummary:
    state = columns.optional_text(row[7])
    return DeviceSummary(
        identity=Identity(domain=columns.text(row[0]), device_id=columns.text(row[1])),
        kind=ClientKind(columns.text(row[2])),
        standing=Standing(columns.text(row[3])),
        alarm=Alarm(columns.number(row[4])),
        batch=columns.optional_text(row[5]),
        serial=columns.optional_text(row[6]),
        state=None if state is None else CertificateState(state),
        not_after=times.optional_moment(row[8]),
        registered_at=times.moment(row[9]),
        last_seen_at=times.optional_moment(row[10]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """A profile that was assigned, and to how many devices and batches."""

    domain: str
    profile: str
    devices: int
    batches: int


async def assigned_profiles(tx: Transaction, _argument: None) -> tuple[Assigned, ...]:
    """Return the profiles that our records name, by domain and name."""
    rows = await tx.fetch_all(
        "SELECT domain, profile, SUM(devices), SUM(batches) FROM ("
        "SELECT domain, profile, COUNT(*) AS devices, 0 AS batches FROM devices"
        " WHERE profile <> '' GROUP BY domain, profile"
        " UNION ALL SELECT domain, profile, 0, COUNT(*) FROM batches"
        " WHERE profile <> '' GROUP BY domain, profile"
        ") AS assigned GROUP BY domain, profile ORDER BY domain, profile"
    )
    return tuple(
        Assigned(
            domain=columns.text(row[0]),
            profile=columns.text(row[1]),
            devices=columns.number(row[2]),
            batches=columns.number(row[3]),
        )
        for row in rows
    )
