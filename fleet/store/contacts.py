"""The connection history: contacts are kept, counted where they repeat, found again, and let go in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.core.causes import Cause
from fleet.core.history import ALIKE_FOR, Contact, address_key
from fleet.model import BrokerEventKind
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times

MAX_PAGE = 1000

_COLUMNS = (
    "number, kind, place, cause, domain, device_id, name, issuer, serial, address, first_at, last_at, times"
)
_MOST_PRUNED = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContact:
    """A row of the history; a higher number is a later one."""

    number: int
    contact: Contact


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactQuery:
    """Which contacts to find, the newest first; what is empty does not restrict."""

    kind: BrokerEventKind | None = None
    domain: str = ""
    device_id: str = ""
    serial: str = ""
    place: str = ""
    cause: str = ""
    network: tuple[str, str] | None = None
    """Keys of its first and last address."""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    """Only rows with a lower number: the cursor."""
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What of the history is let go: what is older, and of each device what is beyond a number of rows."""

    before: datetime
    per_device: int
    of_strangers: int


async def keep(tx: Transaction, contacts: Sequence[Contact]) -> None:
    """Add contacts; one like another of the last minutes is counted there."""
    for one in contacts:
        near = (times.text(one.first_at - ALIKE_FOR), times.text(one.first_at + ALIKE_FOR))
        row = await tx.fetch_one(
            "SELECT number FROM connections WHERE likeness = ? AND first_at BETWEEN ? AND ?"
            " ORDER BY number DESC LIMIT 1",
            (one.likeness, *near),
        )
        if row is None:
            await _insert(tx, one)
        else:
            await _count(tx, one, columns.number(row[0]))


async def _count(tx: Transaction, one: Contact, number: int) -> None:
    """Count a contact in the row of one like it; a log may tell of the earlier one later."""
    first, last = times.text(one.first_at), times.text(one.last_at)
    await tx.execute(
        "UPDATE connections SET times = times + ?,"
        " first_at = CASE WHEN first_at > ? THEN ? ELSE first_at END,"
        " last_at = CASE WHEN last_at < ? THEN ? ELSE last_at END WHERE number = ?",
        (one.times, first, first, last, last, number),
    )


async def _insert(tx: Transaction, one: Contact) -> None:
    await tx.execute(
        f"INSERT INTO connections ({_COLUMNS}, likeness, address_key)"
        " SELECT COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM connections",
        (
            one.kind.value,
            one.place,
            one.word,
            one.domain,
            one.device_id,
            one.name,
            one.issuer,
            one.serial,
            one.address,
            times.text(one.first_at),
            times.text(one.last_at),
            one.times,
            one.likeness,
            address_key(one.address),
        ),
    )


async def search(tx: Transaction, query: ContactQuery) -> tuple[StoredContact, ...]:
    """Return the contacts that fit, the newest row first."""
    terms, values = _where(query)
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM connections{_clause(terms)} ORDER BY number DESC LIMIT ?",
        (*values, min(query.limit, MAX_PAGE)),
    )
    return tuple(_stored(row) for row in rows)


def _where(query: ContactQuery) -> tuple[list[str], list[Value]]:
    equal = {
        "kind": "" if query.kind is None else query.kind.value,
        "domain": query.domain,
        "device_id": query.device_id,
        "serial": query.serial,
        "place": query.place,
        "cause": query.cause,
    }
    terms = [f"{name} = ?" for name, value in equal.items() if value]
    values: list[Value] = [value for value in equal.values() if value]
    bounds: tuple[tuple[str, Value], ...] = (
        ("last_at >= ?", times.optional_text(query.since)),
        ("first_at <= ?", times.optional_text(query.until)),
        ("number < ?", query.before),
    )
    for term, value in bounds:
        if value is not None:
            terms.append(term)
            values.append(value)
    if query.network is not None:
        terms.append("address_key BETWEEN ? AND ?")
        values += query.network
    return terms, values


def _clause(terms: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(terms)}" if terms else ""


async def surplus(tx: Transaction, keeping: Keeping) -> tuple[int, ...]:
    """Return the numbers of rows that go, some thousands at most: ask again until there is none."""
    rows = await tx.fetch_all(
        "SELECT number FROM connections WHERE last_at < ? ORDER BY last_at LIMIT ?",
        (times.text(keeping.before), _MOST_PRUNED),
    )
    found = [columns.number(row[0]) for row in rows]
    if not found:
        least = min(keeping.per_device, keeping.of_strangers)
        crowded = await tx.fetch_all(
            "SELECT domain, device_id FROM connections GROUP BY domain, device_id HAVING COUNT(*) > ?",
            (least,),
        )
        for domain, device_id in crowded:
            kept = keeping.per_device if device_id else keeping.of_strangers
            beyond = await tx.fetch_all(
                "SELECT number FROM connections WHERE domain = ? AND device_id = ?"
                " ORDER BY number DESC LIMIT ? OFFSET ?",
                (domain, device_id, _MOST_PRUNED - len(found), kept),
            )
            found += [columns.number(row[0]) for row in beyond]
            if len(found) >= _MOST_PRUNED:
                break
    return tuple(found)


async def drop(tx: Transaction, numbers: Sequence[int]) -> None:
    """Let rows go."""
    for number in numbers:
        await tx.execute("DELETE FROM connections WHERE number = ?", (number,))


def _stored(row: Row) -> StoredContact:
    kind, word = BrokerEventKind(columns.text(row[1])), columns.text(row[3])
    is_refusal = kind is BrokerEventKind.REFUSED
    return StoredContact(
        number=columns.number(row[0]),
        contact=Contact(
            kind=kind,
            place=columns.text(row[2]),
            cause=Cause(word) if is_refusal else None,
            ending="" if is_refusal else word,
            domain=columns.text(row[4]),
            device_id=columns.text(row[5]),
            name=columns.text(row[6]),
            issuer=columns.text(row[7]),
            serial=columns.text(row[8]),
            address=columns.text(row[9]),
            first_at=times.moment(row[10]),
            last_at=times.moment(row[11]),
            times=columns.number(row[12]),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleQuery:
    """Which refusals to sum up; what is empty does not restrict."""

    since: datetime
    cause: str = ""
    place: str = ""
    domain: str = ""
    before: int | None = None
    """The cursor: only troubles whose newest row has a lower number."""
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Refusals of one, at one place, for one cause; `newest` is the number of the newest row."""

    newest: int
    place: str
    cause: Cause
    domain: str
    device_id: str
    name: str
    serial: str
    address: str
    first_at: datetime
    last_at: datetime
    times: int


_ALIKE = "place, cause, domain, device_id, name, serial, address"


async def troubles(tx: Transaction, query: TroubleQuery) -> tuple[Trouble, ...]:
    """Return the refusals since a time, summed up, the newest first."""
    equal = {"cause": query.cause, "place": query.place, "domain": query.domain}
    terms = ["kind = ?", "last_at >= ?", *(f"{name} = ?" for name, value in equal.items() if value)]
    values = [BrokerEventKind.REFUSED.value, times.text(query.since), *filter(None, equal.values())]
    rows = await tx.fetch_all(
        f"SELECT MAX(number), {_ALIKE}, MIN(first_at), MAX(last_at), SUM(times) FROM connections"
        f"{_clause(terms)} GROUP BY {_ALIKE} HAVING MAX(number) < ? ORDER BY MAX(number) DESC LIMIT ?",
        (*values, 2**62 if query.before is None else query.before, min(query.limit, MAX_PAGE)),
    )
    return tuple(_trouble(row) for row in rows)


def _trouble(row: Row) -> Trouble:
    newest, place, cause, domain, device_id, name, serial, address, first_at, last_at, number = row
    return Trouble(
        newest=columns.number(newest),
        place=columns.text(place),
        cause=Cause(columns.text(cause)),
        domain=columns.text(domain),
        device_id=columns.text(device_id),
        name=columns.text(name),
        serial=columns.text(serial),
        address=columns.text(address),
        first_at=times.moment(first_at),
        last_at=times.moment(last_at),
        times=columns.number(number),
    )


async def count_refusals(tx: Transaction, since: datetime) -> tuple[tuple[Cause, int], ...]:
    """Return how many were refused since a time, by cause, wherever it was seen."""
    rows = await tx.fetch_all(
        "SELECT cause, SUM(times) FROM connections WHERE kind = ? AND last_at >= ?"
        " GROUP BY cause ORDER BY cause",
        (BrokerEventKind.REFUSED.value, times.text(since)),
    )
    return tuple((Cause(columns.text(cause)), columns.number(count)) for cause, count in rows)
