"""What revocation lists are made of: entries that were encoded when they came to be, joined as they are read.

It only reads, but for the turns of the complete lists. Joining happens in the thread that reads, part by
part, so that a million entries neither stand in memory one by one nor hold up anybody else.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fleet.core.revocation import encode_removal
from fleet.ports import Row, Transaction
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
    """A list of an issuer is about to be made. A complete one is in its turn once in every `interval`;
    lists beside it have none."""

    issuer: str
    at: datetime
    interval: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The number of a new list, and the complete list that its delta starts from."""

    issuer: str
    number: int
    at: datetime
    base_number: int
    base_at: datetime
    is_due: bool
    """It is one in its turn: `note_turn` once it was made."""

    @property
    def ends_from(self) -> datetime:
        """The list names what ended from then on (RFC 5280 3.3): what ended before has been on a list in its
        turn since. After the clock was set back, all that is valid by it is on the list."""
        return min(self.base_at, self.at)


async def take_turn(tx: Transaction, order: TurnOrder) -> Turn:
    """Take the next number of an issuer's lists, and say what the list is made from."""
    # Milliseconds: above every earlier number even where the counter was restored from a backup.
    number = await next_crl_number(tx, order.issuer, floor=(order.at - _EPOCH) // _MILLISECOND)
    row = await tx.fetch_one(
        "SELECT number, made_at, base_number, base_at FROM crl_turns WHERE issuer = ?", (order.issuer,)
    )
    base_number, base_at, is_due = number, order.at, order.interval is not None
    if row is not None:
        made_at = times.moment(row[1])
        is_due = order.interval is not None and not timedelta(0) <= order.at - made_at < order.interval
        # In a new turn, the newest one so far is what deltas start from.
        base_number, base_at = (columns.number(row[0]), made_at) if is_due else _base(row)
    return Turn(
        issuer=order.issuer,
        number=number,
        at=order.at,
        base_number=base_number,
        base_at=base_at,
        is_due=is_due,
    )


async def note_turn(tx: Transaction, turn: Turn) -> None:
    """Remember a complete list that was made in its turn."""
    await tx.execute(
        "INSERT INTO crl_turns (issuer, number, made_at, base_number, base_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, made_at = excluded.made_at,"
        " base_number = excluded.base_number, base_at = excluded.base_at",
        (turn.issuer, turn.number, times.text(turn.at), turn.base_number, times.text(turn.base_at)),
    )


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


def _base(row: Row) -> tuple[int, datetime]:
    return columns.number(row[2]), times.moment(row[3])


def _joined(rows: list[Row]) -> Entries:
    return Entries(der=b"".join([columns.octets(row[0]) for row in rows]), count=len(rows))
