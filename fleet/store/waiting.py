"""Devices that asked with a claim certificate, and wait for somebody to approve them."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "domain, device_id, key_hash, short_code, claim_serial, address, asked_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One request; `short_code` is shown on both sides, so that people can compare."""

    identity: Identity
    key_hash: str
    short_code: str
    claim_serial: str
    address: str
    asked_at: datetime


async def keep_waiting(tx: Transaction, request: Waiting) -> None:
    """Remember a request; the same device with the same key counts once."""
    await tx.execute(
        f"INSERT INTO waiting ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (domain, device_id, key_hash) DO UPDATE SET asked_at = excluded.asked_at,"
        " address = excluded.address",
        (
            request.identity.domain,
            request.identity.device_id,
            request.key_hash,
            request.short_code,
            request.claim_serial,
            request.address,
            times.text(request.asked_at),
        ),
    )


async def find_waiting(tx: Transaction, identity: Identity, key_hash: str) -> Waiting | None:
    """Return the request of a device with a key."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM waiting WHERE domain = ? AND device_id = ? AND key_hash = ?",
        (identity.domain, identity.device_id, key_hash),
    )
    return None if row is None else _request(row)


async def of_device(tx: Transaction, identity: Identity) -> tuple[Waiting, ...]:
    """Return all requests in the name of a device: more than one means more than one key."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM waiting WHERE domain = ? AND device_id = ? ORDER BY asked_at, key_hash",
        (identity.domain, identity.device_id),
    )
    return tuple(_request(row) for row in rows)


async def list_waiting(tx: Transaction, limit: int) -> tuple[Waiting, ...]:
    """Return the requests that wait, the oldest first."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM waiting ORDER BY asked_at, domain, device_id LIMIT ?",
        (limit,),
    )
    return tuple(_request(row) for row in rows)


async def count_waiting(tx: Transaction, claim_serial: str) -> int:
    """Return how many requests came with a claim certificate."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM waiting WHERE claim_serial = ?", (claim_serial,))
    return 0 if row is None else columns.number(row[0])


async def drop_waiting(tx: Transaction, identity: Identity) -> int:
    """Forget all requests in the name of a device; return how many there were."""
    return await tx.execute(
        "DELETE FROM waiting WHERE domain = ? AND device_id = ?", (identity.domain, identity.device_id)
    )


def _request(row: Row) -> Waiting:
    domain, device_id, key_hash, short_code, claim_serial, address, asked_at = row
    return Waiting(
        identity=Identity(domain=columns.text(domain), device_id=columns.text(device_id)),
        key_hash=columns.text(key_hash),
        short_code=columns.text(short_code),
        claim_serial=columns.text(claim_serial),
        address=columns.text(address),
        asked_at=times.moment(asked_at),
    )
