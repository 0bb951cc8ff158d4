"""Devices' certificates whose time has come: not confirmed, ended, or past their grace.

It finds them by their indices; the core says what that means for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.ports import Row, Transaction
from fleet.store import columns, times


@dataclass(frozen=True, slots=True, kw_only=True)
class DueQuery:
    """Certificates whose moment lies before `before`, the oldest first."""

    before: datetime
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One certificate that is due."""

    identity: Identity
    serial: str
    grant: str
    """Kind of the grant that it was enrolled with, empty for a renewal."""


async def unconfirmed(tx: Transaction, query: DueQuery) -> tuple[Due, ...]:
    """Return agents' certificates that were issued before a time and never confirmed, oldest first."""
    rows = await tx.fetch_all(
        "SELECT c.domain, c.device_id, c.serial, COALESCE(k.kind, '') FROM certificates c"
        " JOIN devices d ON d.domain = c.domain AND d.device_id = c.device_id"
        " LEFT JOIN codes k ON k.code_id = c.code_id"
        " WHERE c.state = 'issued' AND c.purpose = 'device' AND d.kind = 'agent' AND c.changed_at < ?"
        " ORDER BY c.changed_at, c.serial LIMIT ?",
        (times.text(query.before), query.limit),
    )
    return _due(rows)


async def unstamped(tx: Transaction, query: DueQuery) -> tuple[Due, ...]:
    """Return plain clients' unused certificates whose place in the broker's order was never read."""
    rows = await tx.fetch_all(
        "SELECT c.domain, c.device_id, c.serial, COALESCE(k.kind, '') FROM certificates c"
        " JOIN devices d ON d.domain = c.domain AND d.device_id = c.device_id"
        " LEFT JOIN codes k ON k.code_id = c.code_id"
        " WHERE c.state = 'issued' AND c.purpose = 'device' AND d.kind = 'plain'"
        " AND c.issued_stamp IS NULL AND c.changed_at < ?"
        " ORDER BY c.changed_at, c.serial LIMIT ?",
        (times.text(query.before), query.limit),
    )
    return _due(rows)


async def past_end(tx: Transaction, query: DueQuery) -> tuple[Due, ...]:
    """Return devices' certificates that are admitted and have ended, oldest first."""
    rows = await tx.fetch_all(
        "SELECT c.domain, c.device_id, c.serial, COALESCE(k.kind, '') FROM certificates c"
        " LEFT JOIN codes k ON k.code_id = c.code_id"
        " WHERE c.state IN ('issued', 'active') AND c.purpose = 'device' AND c.not_after < ?"
        " ORDER BY c.not_after, c.serial LIMIT ?",
        (times.text(query.before), query.limit),
    )
    return _due(rows)


async def past_grace(tx: Transaction, query: DueQuery) -> tuple[Due, ...]:
    """Return devices' certificates that ended before a time, and whose device was not held up since."""
    rows = await tx.fetch_all(
        "SELECT c.domain, c.device_id, c.serial, COALESCE(k.kind, '') FROM certificates c"
        " JOIN devices d ON d.domain = c.domain AND d.device_id = c.device_id"
        " LEFT JOIN codes k ON k.code_id = c.code_id"
        " WHERE c.state IN ('expired-grace', 'expired-unused') AND c.not_after < ?"
        " AND d.suspended = 0 AND d.alarm < 2 AND COALESCE(d.resumed_at, '') < ?"
        " ORDER BY c.not_after, c.serial LIMIT ?",
        (times.text(query.before), times.text(query.before), query.limit),
    )
    return _due(rows)


def _due(rows: Sequence[Row]) -> tuple[Due, ...]:
    return tuple(
        Due(
            identity=Identity(domain=columns.text(domain), device_id=columns.text(device_id)),
            serial=columns.text(serial),
            grant=columns.text(grant),
        )
        for domain, device_id, serial, grant in rows
    )
