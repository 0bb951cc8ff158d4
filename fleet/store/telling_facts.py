"""What people may have to be told, as the records have it: what ends, was missed, alarmed, or is full."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.model import Purpose
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_PAGE = 1000
NEARLY_FULL_PERCENT = 90
_CURRENT = (
    "EXISTS (SELECT 1 FROM devices d WHERE d.domain = c.domain AND d.device_id = c.device_id"
    " AND d.current_serial = c.serial AND d.retired_at IS NULL)"
)
"""A device's certificate that it uses."""
_NEWEST = (
    "NOT EXISTS (SELECT 1 FROM certificates n WHERE n.name = c.name AND n.purpose = c.purpose"
    " AND n.state IN ('issued', 'active') AND n.not_after > c.not_after)"
    " AND NOT EXISTS (SELECT 1 FROM batches b WHERE c.purpose = 'claim' AND b.domain = c.domain"
    " AND b.name = c.batch AND b.closed_at IS NOT NULL)"
)
"""The last one of those that one name has, unless it is the claim of a batch that was closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A certificate in use, and when it ends."""

    purpose: Purpose
    name: str
    serial: str
    not_after: datetime
    identity: Identity | None = None
    """Of a device's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndingQuery:
    """Certificates of a purpose that end before a time, page by page: those after the last one."""

    purpose: Purpose
    before: datetime
    after: tuple[str, str] = ("", "")
    """End and serial of the last one of the page before."""

    def following(self, last: Ending) -> "EndingQuery":
        """Return the query of the next page."""
        after = (times.text(last.not_after), last.serial)
        return EndingQuery(purpose=self.purpose, before=self.before, after=after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubled:
    """A device, and since when something is wrong with it."""

    identity: Identity
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How much of a limit is used."""

    what: str
    domain: str
    used: int
    limit: int


async def ending(tx: Transaction, query: EndingQuery) -> tuple[Ending, ...]:
    """Return a page of certificates in use that end before a time: the newest one that each name has."""
    which = _CURRENT if query.purpose is Purpose.DEVICE else _NEWEST
    rows = await tx.fetch_all(
        "SELECT c.name, c.serial, c.not_after, c.domain, c.device_id FROM certificates c"
        " WHERE c.state IN ('issued', 'active') AND c.not_after < ? AND (c.not_after, c.serial) > (?, ?)"
        f" AND c.purpose = ? AND {which} ORDER BY c.not_after, c.serial LIMIT ?",
        (times.text(query.before), *query.after, query.purpose.value, _PAGE),
    )
    return tuple(_ending(query.purpose, row) for row in rows)


async def missed(tx: Transaction, after: tuple[str, str]) -> tuple[Troubled, ...]:
    """Return a page of devices in service whose certificate ended, with its end."""
    return await _troubled(
        tx,
        "SELECT d.domain, d.device_id, c.not_after FROM devices d"
        " JOIN certificates c ON c.serial = d.current_serial"
        " WHERE c.state IN ('expired-grace', 'expired-unused', 'expired-final')"
        " AND d.revoked = 0 AND d.suspended = 0 AND d.retired_at IS NULL",
        after,
    )


async def alarmed(tx: Transaction, after: tuple[str, str]) -> tuple[Troubled, ...]:
    """Return a page of devices with an alarm."""
    # What is said of `alarm` is the condition of the index `devices_in_trouble`, so that it is used.
    return await _troubled(
        tx,
        "SELECT d.domain, d.device_id, NULL FROM devices d"
        " WHERE (d.suspended = 1 OR d.alarm > 0 OR d.code_conflict = 1)"
        " AND (d.alarm > 0 OR d.code_conflict = 1) AND d.revoked = 0 AND d.retired_at IS NULL",
        after,
    )


async def nearly_full(tx: Transaction, _argument: None = None) -> tuple[Use, ...]:
    """Return the limits of stations and batches that are used up, or nearly."""
    rows = await tx.fetch_all(
        "SELECT 'station ' || b.station || ', batch ' || b.batch, b.domain, b.used, b.quota"
        " FROM station_batches b JOIN stations s ON s.name = b.station"
        " WHERE b.quota IS NOT NULL AND s.closed_at IS NULL AND b.used * 100 >= b.quota * ?"
        " UNION ALL SELECT 'batch ' || domain || '/' || name, domain, uses, uses_allowed FROM batches"
        " WHERE uses_allowed > 0 AND closed_at IS NULL AND uses * 100 >= uses_allowed * ? ORDER BY 1",
        (NEARLY_FULL_PERCENT, NEARLY_FULL_PERCENT),
    )
    return tuple(
        Use(
            what=columns.text(row[0]),
            domain=columns.text(row[1]),
            used=columns.number(row[2]),
            limit=columns.number(row[3]),
        )
        for row in rows
    )


async def _troubled(tx: Transaction, sql: str, after: tuple[str, str]) -> tuple[Troubled, ...]:
    rows = await tx.fetch_all(
        f"{sql} AND (d.domain, d.device_id) > (?, ?) ORDER BY d.domain, d.device_id LIMIT ?", (*after, _PAGE)
    )
    return tuple(
        Troubled(
            identity=Identity(domain=columns.text(row[0]), device_id=columns.text(row[1])),
            since=times.optional_moment(row[2]),
        )
        for row in rows
    )


def _ending(purpose: Purpose, row: Row) -> Ending:
    is_device = purpose is Purpose.DEVICE
    identity = Identity(domain=columns.text(row[3]), device_id=columns.text(row[4])) if is_device else None
    return Ending(
        purpose=purpose,
        name=columns.text(row[0]),
        serial=columns.text(row[1]),
        not_after=times.moment(row[2]),
        identity=identity,
    )
