"""What a restored database may not simply go on with, and what must stand in it.

Every number that was handed out after the backup lies below the ones that come next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.model import CertificateState
from fleet.ports import Transaction
from fleet.store import columns, times
from fleet.store.revocations import revocation_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a trail says must stand in the records."""

    serials: Sequence[str]
    revoked: Sequence[str]
    retired: Sequence[tuple[str, str]]
    """Domain and id of devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leap:
    """How far every counter moves, and where those of revocation lists are at least before that.

    Lists are numbered by the milliseconds of the clock, or on from the last one, whichever is more.
    """

    by: int
    lists_from: int


async def leap(tx: Transaction, jump: Leap) -> int:
    """Move every counter on, also those that nobody had counted with yet; return how many there are."""
    await tx.execute(
        "INSERT INTO counters (name, value) SELECT 'crl:' || issuer, 0 FROM authorities WHERE issuer <> ''"
        " UNION SELECT 'trust:' || realm, 0 FROM authorities WHERE true ON CONFLICT (name) DO NOTHING"
    )
    await tx.execute(
        "UPDATE counters SET value = ? WHERE substr(name, 1, 4) = 'crl:' AND value < ?",
        (jump.lists_from, jump.lists_from),
    )
    return await tx.execute("UPDATE counters SET value = value + ?", (jump.by,))


async def drop_answers(tx: Transaction, _argument: None) -> int:
    """Forget answers that were kept for operators' programs: nobody can open them any more."""
    return await tx.execute("DELETE FROM answers")


async def close_unused_codes(tx: Transaction, at: datetime) -> int:
    """Close every code that admits whichever key comes first: it may have been used since the backup."""
    return await tx.execute(
        "UPDATE codes SET closed_at = ? WHERE closed_at IS NULL AND key_hash IS NULL", (times.text(at),)
    )


async def missing(tx: Transaction, claimed: Claimed) -> tuple[str, ...]:
    """Return what the records do not bear out of what a trail claims, one line for each."""
    found = [
        f"certificate {serial} is not on record"
        for serial in claimed.serials
        if await tx.fetch_one("SELECT 1 FROM certificates WHERE serial = ?", (serial,)) is None
    ]
    found += [
        f"certificate {serial} is not revoked"
        for serial in claimed.revoked
        if not await _is_revoked(tx, serial)
    ]
    for domain, device_id in claimed.retired:
        sql = "SELECT retired_at FROM devices WHERE domain = ? AND device_id = ?"
        row = await tx.fetch_one(sql, (domain, device_id))
        if row is None or row[0] is None:
            found.append(f"device {domain}:{device_id} is not retired")
    return tuple(found)


async def _is_revoked(tx: Transaction, serial: str) -> bool:
    row = await tx.fetch_one("SELECT state FROM certificates WHERE serial = ?", (serial,))
    is_ended = row is not None and columns.text(row[0]) == CertificateState.REVOKED.value
    return is_ended and await revocation_of(tx, serial) is not None
