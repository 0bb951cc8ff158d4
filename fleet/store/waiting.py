"""Requests that wait for somebody to approve them, and those that were rejected."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.model import Assurance
from fleet.ports import Row, Transaction
from fleet.store import columns, times
from fleet.store.codes import GrantKind

_COLUMNS = (
    "domain, device_id, key_hash, short_code, claim_serial, address, asked_at, kind, assurance, evidence,"
    " reason, rejected_at, rejected_by"
)

_OLDER = "asked_at < ? AND (rejected_at IS NULL OR rejected_at < ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One request; `short_code` is shown on both sides, so that people can compare."""

    identity: Identity
    key_hash: str
    short_code: str
    claim_serial: str
    address: str
    asked_at: datetime
    kind: GrantKind = GrantKind.CLAIM
    assurance: Assurance = Assurance.NONE
    """What it has proved so far, and by what."""
    evidence: str = ""
    reason: str = ""
    """Why that does not do."""
    rejected_at: datetime | None = None
    rejected_by: str = ""


async def keep_waiting(tx: Transaction, request: Waiting) -> None:
    """Remember a request in the place of an earlier one of the same device with the same key."""
    await drop_one(tx, request)
    await tx.execute(
        f"INSERT INTO waiting ({_COLUMNS}) VALUES ({', '.join('?' * 13)})",
        (
            request.identity.domain,
            request.identity.device_id,
            request.key_hash,
            request.short_code,
            request.claim_serial,
            request.address,
            times.text(request.asked_at),
            request.kind.value,
            request.assurance.word,
            request.evidence,
            request.reason,
            times.optional_text(request.rejected_at),
            request.rejected_by or None,
        ),
    )


async def find_waiting(tx: Transaction, identity: Identity, key_hash: str) -> Waiting | None:
    """Return the request of a device with a key, be it rejected."""
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


async def of_code(tx: Transaction, short_code: str) -> tuple[Waiting, ...]:
    """Return all requests with a short code, of any domain."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM waiting WHERE short_code = ? ORDER BY asked_at, domain, device_id",
        (short_code,),
    )
    return tuple(_request(row) for row in rows)


async def list_waiting(tx: Transaction, limit: int) -> tuple[Waiting, ...]:
    """Return the requests that nobody has decided on, the oldest first."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM waiting WHERE rejected_at IS NULL"
        " ORDER BY asked_at, domain, device_id LIMIT ?",
        (limit,),
    )
    return tuple(_request(row) for row in rows)


async def count_waiting(tx: Transaction, claim_serial: str) -> int:
    """Return how many requests came with a claim certificate, or without one."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM waiting WHERE claim_serial = ?", (claim_serial,))
    return 0 if row is None else columns.number(row[0])


async def drop_waiting(tx: Transaction, identity: Identity) -> int:
    """Forget all requests in the name of a device; return how many there were."""
    return await tx.execute(
        "DELETE FROM waiting WHERE domain = ? AND device_id = ?", (identity.domain, identity.device_id)
    )


async def drop_one(tx: Transaction, request: Waiting) -> None:
    """Forget one request."""
    await tx.execute(
        "DELETE FROM waiting WHERE domain = ? AND device_id = ? AND key_hash = ?",
        (request.identity.domain, request.identity.device_id, request.key_hash),
    )


async def has_older(tx: Transaction, moment: datetime) -> bool:
    """Tell whether there is a request that came before a moment."""
    return (
        await tx.fetch_one("SELECT 1 FROM waiting WHERE asked_at < ? LIMIT 1", (times.text(moment),))
        is not None
    )


async def drop_older(tx: Transaction, moment: datetime) -> int:
    """Forget the requests that came, or were rejected, before a moment; return how many there were."""
    return await tx.execute(f"DELETE FROM waiting WHERE {_OLDER}", (times.text(moment),) * 2)


def _request(row: Row) -> Waiting:
    return Waiting(
        identity=Identity(domain=columns.text(row[0]), device_id=columns.text(row[1])),
        key_hash=columns.text(row[2]),
        short_code=columns.text(row[3]),
        claim_serial=columns.text(row[4]),
        address=columns.text(row[5]),
        asked_at=times.moment(row[6]),
        kind=GrantKind(columns.text(row[7])),
        assurance=Assurance[columns.text(row[8]).upper()],
        evidence=columns.text(row[9]),
        reason=columns.text(row[10]),
        rejected_at=times.optional_moment(row[11]),
        rejected_by=columns.optional_text(row[12]) or "",
    )
