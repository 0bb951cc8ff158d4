"""Rollovers on record, and who still needs what they give up.

It decides nothing: what may follow on what is the table in `fleet.core.rollover`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.core.rollover import Need, Rollover, RolloverKind, RolloverState
from fleet.ports import Row, Transaction
from fleet.store import columns, times
from fleet.store.counters import count_up

NAMED = 20
"""So many are named where many are counted."""

_COLUMNS = "number, realm, kind, state, gives_up, brings, version, started_at, changed_at"
_COUNTER = "rollovers"
_LIVE = "('issued', 'active', 'expired-grace', 'expired-unused')"


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedQuery:
    """Who lives by these issuing CAs (hex subject key identifiers)."""

    issuers: tuple[str, ...]
    limit: int = NAMED


async def next_number(tx: Transaction) -> int:
    """Take the number of a new rollover."""
    return await count_up(tx, _COUNTER)


async def insert_rollover(tx: Transaction, rollover: Rollover) -> None:
    """Add a rollover."""
    await tx.execute(f"INSERT INTO rollovers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _row(rollover))


async def save_rollover(tx: Transaction, rollover: Rollover) -> None:
    """Write where a rollover stands, and what it brings by now."""
    await tx.execute(
        "UPDATE rollovers SET state = ?, brings = ?, changed_at = ? WHERE number = ?",
        (
            rollover.state.value,
            _joined(rollover.brings),
            times.text(rollover.changed_at),
            rollover.number,
        ),
    )


async def list_rollovers(tx: Transaction, _argument: None = None) -> tuple[Rollover, ...]:
    """Return all rollovers, the oldest first."""
    return tuple(map(_rollover, await tx.fetch_all(f"SELECT {_COLUMNS} FROM rollovers ORDER BY number")))


async def newest_rollover(tx: Transaction, realm: str) -> Rollover | None:
    """Return the rollover of a realm that was begun last, or None."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM rollovers WHERE realm = ? ORDER BY number DESC LIMIT 1", (realm,)
    )
    return None if row is None else _rollover(row)


async def who_needs(tx: Transaction, query: NeedQuery) -> Need:
    """Return who has a certificate of these CAs that is in use, or that may still be renewed."""
    if not query.issuers:
        return Need()
    marks = ", ".join("?" * len(query.issuers))
    source = (
        " FROM certificates c"
        " LEFT JOIN devices d ON c.purpose = 'device' AND d.domain = c.domain AND d.device_id = c.device_id"
        f" WHERE c.issuer IN ({marks}) AND c.state IN {_LIVE}"
        " AND c.purpose NOT IN ('signer', 'authority')"
        " AND d.retired_at IS NULL AND COALESCE(d.revoked, 0) = 0"
    )
    counted = await tx.fetch_one(f"SELECT COUNT(*){source}", query.issuers)
    rows = await tx.fetch_all(
        f"SELECT c.name, c.purpose{source} ORDER BY c.serial LIMIT ?", (*query.issuers, query.limit)
    )
    names = (_named(columns.text(name), columns.text(purpose)) for name, purpose in rows)
    return Need(count=0 if counted is None else columns.number(counted[0]), names=tuple(names))


def _named(name: str, purpose: str) -> str:
    return name if purpose == "device" else f"{purpose} {name}"


def _row(rollover: Rollover) -> Row:
    return (
        rollover.number,
        rollover.realm,
        rollover.kind.value,
        rollover.state.value,
        _joined(rollover.gives_up),
        _joined(rollover.brings),
        rollover.version,
        times.text(rollover.started_at),
        times.text(rollover.changed_at),
    )


def _joined(folders: Sequence[str]) -> str:
    return " ".join(folders)


def _rollover(row: Row) -> Rollover:
    return Rollover(
        number=columns.number(row[0]),
        realm=columns.text(row[1]),
        kind=RolloverKind(columns.text(row[2])),
        state=RolloverState(columns.text(row[3])),
        gives_up=tuple(columns.text(row[4]).split()),
        brings=tuple(columns.text(row[5]).split()),
        version=columns.optional_number(row[6]),
        started_at=times.moment(row[7]),
        changed_at=times.moment(row[8]),
    )
