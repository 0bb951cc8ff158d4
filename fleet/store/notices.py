"""Retained notices that are to be posted, and certificates that are to be renewed before their time.

A notice is wanted by a commit and posted by the server that is connected: a stop in between loses none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from device_agent.wire.trust import FLEET_REALM
from fleet.ports import Transaction, Value
from fleet.store import columns, times

_WANT = " ON CONFLICT (domain, device_id) DO UPDATE SET wanted = notices.wanted + 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedNotice:
    """A device whose notice is to be posted, and the number that this settles."""

    identity: Identity
    serial: str
    """Its current certificate."""
    wanted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyRenewal:
    """A certificate that is to be renewed before its time."""

    serial: str
    renew_after: datetime
    issuer: str
    """The CA that was given up; empty where a rollout asks for it."""
    rollout: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueQuery:
    """Current certificates of devices in service under an issuing CA, that are not due early yet."""

    issuer: str
    limit: int = 500


async def want_notices(tx: Transaction, realm: str) -> int:
    """Have every device of a realm told what is in force; return how many there are."""
    of_realm, parameters = ("", ()) if realm == FLEET_REALM else (" AND domain = ?", (realm,))
    return await tx.execute(
        "INSERT INTO notices (domain, device_id, wanted) SELECT domain, device_id, 1 FROM devices"
        f" WHERE retired_at IS NULL AND revoked = 0 AND current_serial IS NOT NULL{of_realm}{_WANT}",
        parameters,
    )


async def want_notice(tx: Transaction, identity: Identity) -> None:
    """Have one device told."""
    await tx.execute(
        f"INSERT INTO notices (domain, device_id, wanted) VALUES (?, ?, 1){_WANT}", _key(identity)
    )


async def wanted_notices(tx: Transaction, limit: int) -> tuple[WantedNotice, ...]:
    """Return devices that are to be told, and what is their current certificate."""
    rows = await tx.fetch_all(
        "SELECT n.domain, n.device_id, d.current_serial, n.wanted FROM notices n"
        " JOIN devices d ON d.domain = n.domain AND d.device_id = n.device_id"
        " WHERE n.posted < n.wanted AND d.current_serial IS NOT NULL"
        " ORDER BY n.domain, n.device_id LIMIT ?",
        (limit,),
    )
    return tuple(
        WantedNotice(
            identity=Identity(domain=columns.text(row[0]), device_id=columns.text(row[1])),
            serial=columns.text(row[2]),
            wanted=columns.number(row[3]),
        )
        for row in rows
    )


async def note_posted(tx: Transaction, posted: Sequence[WantedNotice]) -> None:
    """Remember which notices the broker has taken."""
    await tx.execute_many(
        "UPDATE notices SET posted = ? WHERE domain = ? AND device_id = ? AND posted < ?",
        [(one.wanted, *_key(one.identity), one.wanted) for one in posted],
    )


async def count_wanted(tx: Transaction, _argument: None = None) -> int:
    """Return how many devices are still to be told something."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM notices WHERE posted < wanted")
    return 0 if row is None else columns.number(row[0])


async def not_due_yet(tx: Transaction, query: DueQuery) -> tuple[tuple[Identity, str], ...]:
    """Return devices, with their current certificates, that are to be made due."""
    rows = await tx.fetch_all(
        "SELECT c.domain, c.device_id, c.serial FROM certificates c"
        " JOIN devices d ON d.domain = c.domain AND d.device_id = c.device_id AND d.current_serial = c.serial"
        " LEFT JOIN early_renewals e ON e.serial = c.serial"
        " WHERE c.issuer = ? AND c.state IN ('issued', 'active', 'expired-grace', 'expired-unused')"
        " AND c.purpose = 'device' AND d.retired_at IS NULL AND d.revoked = 0 AND e.serial IS NULL"
        " ORDER BY c.serial LIMIT ?",
        (query.issuer, query.limit),
    )
    return tuple(
        (Identity(domain=columns.text(row[0]), device_id=columns.text(row[1])), columns.text(row[2]))
        for row in rows
    )


async def due_among(tx: Transaction, identities: Sequence[Identity]) -> tuple[tuple[Identity, str], ...]:
    """Return those of some devices, with their current certificates, that can be made due and are not yet."""
    found = []
    for identity in identities:
        row = await tx.fetch_one(
            "SELECT c.serial FROM devices d JOIN certificates c ON c.serial = d.current_serial"
            " LEFT JOIN early_renewals e ON e.serial = c.serial WHERE d.domain = ? AND d.device_id = ?"
            " AND c.state IN ('active', 'expired-grace', 'expired-unused') AND c.serial >= '01'"
            " AND d.retired_at IS NULL AND d.revoked = 0 AND e.serial IS NULL",
            _key(identity),
        )
        if row is not None:
            found.append((identity, columns.text(row[0])))
    return tuple(found)


async def make_due(tx: Transaction, renewals: Sequence[EarlyRenewal]) -> None:
    """Have certificates renewed early; what is due already stays due then."""
    await tx.execute_many(
        "INSERT INTO early_renewals (serial, renew_after, issuer, rollout) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (serial) DO NOTHING",
        [(one.serial, times.text(one.renew_after), one.issuer, one.rollout) for one in renewals],
    )


async def withdraw_due(tx: Transaction, serials: Sequence[str], *, rollout: int) -> None:
    """Have certificates renewed in their time again that this rollout has made due early."""
    await tx.execute_many(
        "DELETE FROM early_renewals WHERE serial = ? AND rollout = ?",
        [(serial, rollout) for serial in serials],
    )


async def early_renewal(tx: Transaction, serial: str) -> datetime | None:
    """Return when a certificate is to be renewed early, or None."""
    row = await tx.fetch_one("SELECT renew_after FROM early_renewals WHERE serial = ?", (serial,))
    return None if row is None else times.moment(row[0])


async def count_due(tx: Transaction, issuer: str) -> int:
    """Return how many certificates of a CA were made due early."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM early_renewals WHERE issuer = ?", (issuer,))
    return 0 if row is None else columns.number(row[0])


def _key(identity: Identity) -> tuple[Value, Value]:
    return (identity.domain, identity.device_id)
