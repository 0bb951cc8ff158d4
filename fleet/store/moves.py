"""Devices on their way, and those that have arrived."""

from dataclasses import dataclass

from device_agent.wire.identity import Identity
from fleet.core.moving import Move, MoveKind, MoveState
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = (
    "number, kind, state, domain, device_id, to_domain, to_device_id, above_serial, started_at, started_by,"
    " changed_at"
)
_OF_MOVE = ", ".join(f"m.{name.strip()}" for name in _COLUMNS.split(","))
_OPEN = "state IN ('held', 'away', 'waiting')"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveQuery:
    """Which moves to list, the oldest first."""

    identity: Identity | None = None
    """That comes or goes."""
    only_open: bool = False
    after: int = 0
    limit: int = 100


async def save_move(tx: Transaction, move: Move) -> None:
    """Write where a move stands now."""
    await tx.execute(
        f"INSERT INTO device_moves ({_COLUMNS}) VALUES ({', '.join('?' * 11)})"
        " ON CONFLICT (number) DO UPDATE SET state = excluded.state,"
        " above_serial = excluded.above_serial, changed_at = excluded.changed_at",
        (
            move.number,
            move.kind.value,
            move.state.value,
            move.identity.domain,
            move.identity.device_id,
            move.target.domain,
            move.target.device_id,
            move.above,
            times.text(move.started_at),
            move.started_by,
            times.text(move.changed_at),
        ),
    )


async def next_number(tx: Transaction) -> int:
    """Return the number of the next move, from 1."""
    row = await tx.fetch_one("SELECT COALESCE(MAX(number), 0) + 1 FROM device_moves")
    return 1 if row is None else columns.number(row[0])


async def newest_move(tx: Transaction, identity: Identity) -> Move | None:
    """Return the newest move of a device away from what it is, or None."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM device_moves WHERE domain = ? AND device_id = ?"
        " ORDER BY number DESC LIMIT 1",
        (identity.domain, identity.device_id),
    )
    return None if row is None else _move(row)


async def open_towards(tx: Transaction, identity: Identity) -> Move | None:
    """Return the open move that is to end in a device, or None."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM device_moves WHERE to_domain = ? AND to_device_id = ? AND {_OPEN}",
        (identity.domain, identity.device_id),
    )
    return None if row is None else _move(row)


async def list_moves(tx: Transaction, query: MoveQuery) -> tuple[Move, ...]:
    """Return a page of moves."""
    conditions, values = ["number > ?"], [query.after]
    parameters: list[str | int] = [*values]
    if query.only_open:
        conditions.append(_OPEN)
    if query.identity is not None:
        conditions.append("((domain = ? AND device_id = ?) OR (to_domain = ? AND to_device_id = ?))")
        parameters += [query.identity.domain, query.identity.device_id] * 2
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM device_moves WHERE {' AND '.join(conditions)} ORDER BY number LIMIT ?",
        (*parameters, query.limit),
    )
    return tuple(_move(row) for row in rows)


async def arrived(tx: Transaction, _argument: None) -> tuple[Move, ...]:
    """Return the moves whose new certificate is confirmed."""
    rows = await tx.fetch_all(
        f"SELECT {_OF_MOVE} FROM device_moves m"
        " JOIN devices d ON d.domain = m.to_domain AND d.device_id = m.to_device_id"
        " JOIN certificates c ON c.serial = d.current_serial"
        " WHERE m.state = 'waiting' AND c.state = 'active' AND c.serial > m.above_serial"
        " AND d.revoked = 0 AND d.suspended = 0 AND d.retired_at IS NULL ORDER BY m.number"
    )
    return tuple(_move(row) for row in rows)


async def unwelcome(tx: Transaction, _argument: None) -> tuple[Move, ...]:
    """Return the transfers of devices that are kept out since, and that nobody has arrived from."""
    rows = await tx.fetch_all(
        f"SELECT {_OF_MOVE} FROM device_moves m"
        " JOIN devices d ON d.domain = m.domain AND d.device_id = m.device_id"
        " WHERE m.state = 'waiting' AND m.kind = 'transfer' AND (d.revoked = 1 OR d.suspended = 1"
        " OR d.alarm > 0 OR d.code_conflict = 1 OR d.retired_at IS NOT NULL) ORDER BY m.number"
    )
    return tuple(_move(row) for row in rows)


def _move(row: Row) -> Move:
    return Move(
        number=columns.number(row[0]),
        kind=MoveKind(columns.text(row[1])),
        state=MoveState(columns.text(row[2])),
        identity=Identity(domain=columns.text(row[3]), device_id=columns.text(row[4])),
        target=Identity(domain=columns.text(row[5]), device_id=columns.text(row[6])),
        above=columns.text(row[7]),
        started_at=times.moment(row[8]),
        started_by=columns.text(row[9]),
        changed_at=times.moment(row[10]),
    )
