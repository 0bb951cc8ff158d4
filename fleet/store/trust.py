"""Trust bundles on record, and whom each device says that it trusts.

What a device says of itself opens nothing: it only tells operators when an old root can go.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from device_agent.wire.trust import FLEET_REALM, TrustBundle
from fleet.core.rollover import Heard
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times
from fleet.store.counters import value_of
from fleet.store.rollovers import NAMED

_HELD = "anchors, own_version, server_version, problem"
_IN_SERVICE = "d.retired_at IS NULL AND d.revoked = 0 AND d.current_serial IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTrust:
    """Whom a device trusts: anchors of its domain by SHA-256, and the bundles that it took."""

    identity: Identity
    anchors: tuple[str, ...] = ()
    own_version: int = 0
    server_version: int = 0
    problem: str = ""
    reported_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBundle:
    """A signed bundle, and since when devices are told of it."""

    bundle: TrustBundle
    published_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardQuery:
    """Who holds this version of a realm's bundle, or at least the root (SHA-256) that it brings."""

    realm: str
    version: int
    anchor: str
    limit: int = NAMED


async def insert_bundles(tx: Transaction, bundles: Sequence[TrustBundle]) -> None:
    """Add bundles that nobody is told of yet."""
    await tx.execute_many(
        "INSERT INTO trust_bundles (realm, version, body) VALUES (?, ?, ?)",
        [(bundle.realm, bundle.version, bundle.encode().decode()) for bundle in bundles],
    )


async def publish_bundle(tx: Transaction, realm: str, version: int, *, at: datetime) -> None:
    """Put a bundle in force; one that is keeps its time."""
    await tx.execute(
        "UPDATE trust_bundles SET published_at = COALESCE(published_at, ?) WHERE realm = ? AND version = ?",
        (times.text(at), realm, version),
    )


async def bundles_in_force(tx: Transaction, realms: Sequence[str]) -> tuple[TrustBundle, ...]:
    """Return the newest published bundle of each realm that has one."""
    found = []
    for realm in realms:
        row = await tx.fetch_one(
            "SELECT body FROM trust_bundles WHERE realm = ? AND published_at IS NOT NULL"
            " ORDER BY version DESC LIMIT 1",
            (realm,),
        )
        if row is not None:
            found.append(TrustBundle.parse(columns.text(row[0]).encode()))
    return tuple(found)


async def highest_version(tx: Transaction, realm: str) -> int:
    """Return the highest version that was ever signed for a realm, 0 before the first.

    A restored server knows no more than that those of before lie below a counter.
    """
    row = await tx.fetch_one("SELECT COALESCE(MAX(version), 0) FROM trust_bundles WHERE realm = ?", (realm,))
    return max(0 if row is None else columns.number(row[0]), await value_of(tx, f"trust:{realm}"))


async def load_held(tx: Transaction, identity: Identity) -> HeldTrust | None:
    """Return what a device said last, or None."""
    row = await tx.fetch_one(
        f"SELECT {_HELD}, reported_at FROM trust_held WHERE domain = ? AND device_id = ?",
        (identity.domain, identity.device_id),
    )
    if row is None:
        return None
    return HeldTrust(
        identity=identity,
        anchors=tuple(columns.text(row[0]).split()),
        own_version=columns.number(row[1]),
        server_version=columns.number(row[2]),
        problem=columns.text(row[3]),
        reported_at=times.moment(row[4]),
    )


async def save_held(tx: Transaction, held: HeldTrust) -> None:
    """Keep what a device says in place of what it said before."""
    await tx.execute(
        f"INSERT INTO trust_held (domain, device_id, {_HELD}, reported_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (domain, device_id) DO UPDATE SET anchors = excluded.anchors,"
        " own_version = excluded.own_version, server_version = excluded.server_version,"
        " problem = excluded.problem, reported_at = excluded.reported_at",
        (
            held.identity.domain,
            held.identity.device_id,
            " ".join(held.anchors),
            held.own_version,
            held.server_version,
            held.problem,
            times.text(held.reported_at),
        ),
    )


async def who_heard(tx: Transaction, query: HeardQuery) -> Heard:
    """Return how many devices in service hold a bundle, and who does not."""
    source, parameters = _devices(query.realm)
    plain = await _count(tx, f"SELECT COUNT(*){source} AND d.kind = 'plain'", parameters)
    agents = await _count(tx, f"SELECT COUNT(*){source} AND d.kind = 'agent'", parameters)
    holds, holding = _holds(query)
    silent = f"{source} AND d.kind = 'agent' AND NOT {holds}"
    missing = await _count(tx, f"SELECT COUNT(*){silent}", (*parameters, *holding))
    rows = await tx.fetch_all(
        f"SELECT d.domain, d.device_id{silent} ORDER BY d.domain, d.device_id LIMIT ?",
        (*parameters, *holding, query.limit),
    )
    return Heard(
        agents=agents,
        acknowledged=agents - missing,
        plain=plain,
        silent=tuple(_name(row) for row in rows),
    )


async def distrustful(tx: Transaction, limit: int) -> tuple[tuple[str, str], ...]:
    """Return devices in service that refused a bundle, and why, in one word."""
    rows = await tx.fetch_all(
        "SELECT d.domain, d.device_id, t.problem FROM trust_held t"
        " JOIN devices d ON d.domain = t.domain AND d.device_id = t.device_id"
        f" WHERE t.problem <> '' AND {_IN_SERVICE} ORDER BY d.domain, d.device_id LIMIT ?",
        (limit,),
    )
    return tuple((_name(row), columns.text(row[2])) for row in rows)


def _holds(query: HeardQuery) -> tuple[str, tuple[Value, ...]]:
    """Return the condition that a device holds what is asked for, with its parameters."""
    if query.realm == FLEET_REALM:
        return "(COALESCE(t.server_version, 0) >= ?)", (query.version,)
    # An older agent tells its anchors alone.
    condition = "(COALESCE(t.own_version, 0) >= ? OR COALESCE(t.anchors, '') LIKE ?)"
    return condition, (query.version, f"%{query.anchor}%")


def _devices(realm: str) -> tuple[str, tuple[Value, ...]]:
    source = (
        " FROM devices d LEFT JOIN trust_held t ON t.domain = d.domain AND t.device_id = d.device_id"
        f" WHERE {_IN_SERVICE}"
    )
    return (source, ()) if realm == FLEET_REALM else (f"{source} AND d.domain = ?", (realm,))


async def _count(tx: Transaction, sql: str, parameters: Sequence[Value]) -> int:
    row = await tx.fetch_one(sql, parameters)
    return 0 if row is None else columns.number(row[0])


def _name(row: Row) -> str:
    return f"{columns.text(row[0])}:{columns.text(row[1])}"
