"""What revocation lists are made of: entries that were encoded when they came to be, joined as they are read.

It only reads, but for the turns of the complete lists. Joining happens in the thread that reads, part by
part, so that a million entries neither stand in memory one by one nor hold up anybody else.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fleet.core.revocation import encode_removal
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times
from fleet.store.revocations import next_crl_number

_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Encoded elements of revokedCertificates, one after another, and how many they are."""

    der: bytes
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardQuery:
    """Entries of an issuer from the first to the last of some shards, of certificates that end at
    `ends_from` or later."""

    issuer: str
    first: str
    last: str
    ends_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeQuery:
    """Entries of an issuer that changed since its list `since`, of certificates that end at `ends_from` or
    later; holds that were released since then come as removals."""

    issuer: str
    since: int
    ends_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseQuery:
    """The newest entries of an issuer for cause, of certificates that have not ended, at most `limit`."""

    issuer: str
    now: datetime
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOrder:
    """A list of an issuer is about to be made. A complete one takes its turn once in every `interval`;
    lists beside it have none."""

    issuer: str
    at: datetime
    interval: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The number of a new list, the list that its delta starts from, and what it names although it ended."""

    number: int
    base_number: int
    ends_from: datetime
    """RFC 5280 3.3: an entry leaves after a list in its turn that was issued beyond its certificate's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    number: int
    at: datetime


async def take_turn(tx: Transaction, order: TurnOrder) -> Turn:
    """Take the next number of an issuer's lists, and note the turn if it is one."""
    # Milliseconds: above every earlier number even where the counter was restored from a backup.
    number = await next_crl_number(tx, order.issuer, floor=(order.at - _EPOCH) // _MILLISECOND)
    row = await tx.fetch_one(
        "SELECT number, made_at, base_number, base_at FROM crl_turns WHERE issuer = ?", (order.issuer,)
    )
    if row is None:
        newest, base = _Made(number=number, at=order.at), _Made(number=number, at=order.at)
    else:
        newest, base = _made(row[0], row[1]), _made(row[2], row[3])
    if order.interval is not None:
        if row is not None and not timedelta(0) <= order.at - newest.at < order.interval:
            newest, base = _Made(number=number, at=order.at), newest
        await _note_turns(tx, order.issuer, newest, base=base)
    # A clock that was set back: what is valid by it now is on the list.
    return Turn(number=number, base_number=base.number, ends_from=min(base.at, order.at))


async def entries_in(tx: Transaction, query: ShardQuery) -> Entries:
    """Return the entries of some shards."""
    rows = await tx.fetch_all(
        "SELECT entry FROM revocations WHERE issuer = ? AND shard BETWEEN ? AND ?"
        " AND (not_after IS NULL OR not_after >= ?)",
        (query.issuer, query.first, query.last, times.text(query.ends_from)),
    )
    return _joined(rows)


async def changes_since(tx: Transaction, query: ChangeQuery) -> Entries:
    """Return what a delta list holds (RFC 5280 5.2.4): what changed, and which holds are over."""
    changed = await tx.fetch_all(
        "SELECT entry FROM revocations WHERE issuer = ? AND since >= ?"
        " AND (not_after IS NULL OR not_after >= ?)",
        (query.issuer, query.since, times.text(query.ends_from)),
    )
    released = await tx.fetch_all(
        "SELECT h.serial, MAX(h.ended_at) FROM holds h WHERE h.issuer = ? AND h.released = 1 AND h.since >= ?"
        " AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.issuer = h.issuer AND r.serial = h.serial)"
        " GROUP BY h.serial",
        (query.issuer, query.since),
    )
    removals: list[Row] = [
        (encode_removal(columns.text(serial), times.moment(ended)),) for serial, ended in released
    ]
    return _joined([*changed, *removals])


async def newest_for_cause(tx: Transaction, query: CauseQuery) -> tuple[bytes, ...]:
    """Return what a broker's list holds of an issuer at most, the newest first."""
    rows = await tx.fetch_all(
        "SELECT entry FROM revocations WHERE issuer = ? AND for_cause = 1"
        " AND (not_after IS NULL OR not_after >= ?) ORDER BY revoked_at DESC, serial DESC LIMIT ?",
        (query.issuer, times.text(query.now), query.limit),
    )
    return tuple(columns.octets(row[0]) for row in rows)


async def _note_turns(tx: Transaction, issuer: str, newest: _Made, *, base: _Made) -> None:
    await tx.execute(
        "INSERT INTO crl_turns (issuer, number, made_at, base_number, base_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, made_at = excluded.made_at,"
        " base_number = excluded.base_number, base_at = excluded.base_at",
        (issuer, newest.number, times.text(newest.at), base.number, times.text(base.at)),
    )


def _made(number: Value, at: Value) -> _Made:
    return _Made(number=columns.number(number), at=times.moment(at))


def _joined(rows: list[Row]) -> Entries:
    return Entries(der=b"".join([columns.octets(row[0]) for row in rows]), count=len(rows))
