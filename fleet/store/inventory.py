"""Lists of devices, page by page: by domain and id, never by offset, which costs more on every page."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from device_agent.wire.identity import Identity
from fleet.model import Alarm, CertificateState, ClientKind
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times


class Standing(StrEnum):
    """What a device is to an operator, the gravest first."""

    RETIRED = "retired"
    REVOKED = "revoked"
    ALARMED = "alarmed"
    SUSPENDED = "suspended"
    ADOPTED = "adopted"
    """Connects with a certificate of another CA, and has not moved to ours yet."""
    ACTIVE = "active"
    EXPIRED = "expired"
    ENROLLING = "enrolling"
    """Has a certificate that was not confirmed yet."""
    REGISTERED = "registered"
    """Has none."""


# One expression, in the order of the words above, so that a list and a filter never differ.
_STANDING = """CASE
    WHEN d.retired_at IS NOT NULL THEN 'retired'
    WHEN d.revoked = 1 THEN 'revoked'
    WHEN d.alarm > 0 OR d.code_conflict = 1 THEN 'alarmed'
    WHEN d.suspended = 1 THEN 'suspended'
    WHEN c.state = 'active' AND c.serial < '01' THEN 'adopted'
    WHEN c.state = 'active' THEN 'active'
    WHEN c.state LIKE 'expired%' THEN 'expired'
    WHEN EXISTS (SELECT 1 FROM certificates i WHERE i.purpose = 'device' AND i.domain = d.domain
        AND i.device_id = d.device_id AND i.state = 'issued') THEN 'enrolling'
    ELSE 'registered'
END"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceQuery:
    """Which devices to list; what is empty or None does not restrict."""

    domain: str = ""
    prefix: str = ""
    """Of the device id."""
    batch: str = ""
    standing: Standing | None = None
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


async def list_devices(tx: Transaction, query: DeviceQuery) -> tuple[DeviceSummary, ...]:
    """Return a page of devices, by domain and id."""
    conditions, values = _conditions(query)
    rows = await tx.fetch_all(
        f"SELECT d.domain, d.device_id, d.kind, {_STANDING}, d.alarm, d.batch, c.serial, c.state,"
        " c.not_after, d.registered_at, d.last_seen_at"
        " FROM devices d LEFT JOIN certificates c ON c.serial = d.current_serial"
        f" WHERE {' AND '.join(conditions)} ORDER BY d.domain, d.device_id LIMIT ?",
        (*values, query.limit),
    )
    return tuple(_summary(row) for row in rows)


async def count_by_standing(tx: Transaction, domain: str) -> tuple[tuple[Standing, int], ...]:
    """Return how many devices stand how, in a domain, or in all, if it is empty."""
    rows = await tx.fetch_all(
        f"SELECT {_STANDING} AS standing, COUNT(*)"
        " FROM devices d LEFT JOIN certificates c ON c.serial = d.current_serial"
        " WHERE ? IN ('', d.domain) GROUP BY standing",
        (domain,),
    )
    counts = {Standing(columns.text(standing)): columns.number(count) for standing, count in rows}
    return tuple((standing, counts[standing]) for standing in Standing if standing in counts)


def _conditions(query: DeviceQuery) -> tuple[list[str], list[Value]]:
    conditions = ["(d.domain, d.device_id) > (?, ?)"]
    values: list[Value] = [*query.after]
    if query.domain:
        conditions.append("d.domain = ?")
        values.append(query.domain)
    if query.prefix:
        # A range and no LIKE: it uses the index, and `_` is a letter of device ids.
        conditions.append("d.device_id >= ? AND d.device_id < ?")
        values += [query.prefix, query.prefix + "\x7f"]
    if query.batch:
        conditions.append("d.batch = ?")
        values.append(query.batch)
    if query.standing is not None:
        conditions.append(f"{_STANDING} = ?")
        values.append(query.standing.value)
    return conditions, values


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
