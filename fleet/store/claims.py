"""Batches of devices, and how often and how long their claim certificates may be used."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.model import CertificateState
from fleet.ports import Row, Transaction
from fleet.store import allowlist, columns, times
from fleet.store.provisioning import pending_by_batch

_COLUMNS = "domain, name, uses_allowed, uses, created_at, expires_at, closed_at, profile"

PUBLIC_BATCH = "public"
"""The batch of a domain's public claim certificate: it opens the bootstrap listener, and grants nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A row of `batches`; `uses_allowed` None is as often as ids are registered, 0 is never."""

    domain: str
    name: str
    created_at: datetime
    uses_allowed: int | None = None
    uses: int = 0
    expires_at: datetime | None = None
    closed_at: datetime | None = None
    pending: int = 0
    """How many certificates wait for their thing to be registered; known to lists alone."""
    profile: str = ""
    """What its devices' certificates hold; empty where their domain says so."""


async def insert_batch(tx: Transaction, batch: Batch) -> None:
    """Add a batch."""
    await tx.execute(
        f"INSERT INTO batches ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch.domain,
            batch.name,
            batch.uses_allowed,
            batch.uses,
            times.text(batch.created_at),
            times.optional_text(batch.expires_at),
            times.optional_text(batch.closed_at),
            batch.profile,
        ),
    )


async def load_batch(tx: Transaction, domain: str, name: str) -> Batch | None:
    """Return a batch of a domain."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM batches WHERE domain = ? AND name = ?",
        (domain, name),
    )
    return None if row is None else _batch(row)


async def list_batches(tx: Transaction, domain: str) -> tuple[Batch, ...]:
    """Return the batches of a domain, or of all, if it is empty."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM batches WHERE ? IN ('', domain) ORDER BY domain, name",
        (domain,),
    )
    pending = await pending_by_batch(tx)
    batches = [_batch(row) for row in rows]
    return tuple(replace(one, pending=pending.get((one.domain, one.name), 0)) for one in batches)


async def limit_batch(tx: Transaction, batch: Batch) -> None:
    """Set how often and how long a known batch's claims may be used."""
    await tx.execute(
        "UPDATE batches SET uses_allowed = ?, expires_at = ? WHERE domain = ? AND name = ?",
        (batch.uses_allowed, times.optional_text(batch.expires_at), batch.domain, batch.name),
    )


async def set_batch_profile(tx: Transaction, domain: str, name: str, *, profile: str) -> None:
    """Choose what the next certificates of a batch's devices hold; empty leaves it to the domain."""
    await tx.execute("UPDATE batches SET profile = ? WHERE domain = ? AND name = ?", (profile, domain, name))


async def use_batch(tx: Transaction, domain: str, name: str) -> None:
    """Count one more use of a batch's claim."""
    await tx.execute("UPDATE batches SET uses = uses + 1 WHERE domain = ? AND name = ?", (domain, name))


async def close_batch(tx: Transaction, batch: Batch, *, at: datetime) -> int | None:
    """Close a batch for good: its claim certificates leave the allowlist; return its new sequence number."""
    admitted = await allowlist.of_batch(tx, batch.domain, batch.name)
    await tx.execute(
        "UPDATE batches SET closed_at = ? WHERE domain = ? AND name = ? AND closed_at IS NULL",
        (times.text(at), batch.domain, batch.name),
    )
    left = await allowlist.of_batch(tx, batch.domain, batch.name)
    return await allowlist.note(tx, admitted, after=left)


async def claim_serials(tx: Transaction, batch: Batch) -> tuple[str, ...]:
    """Return the serials of a batch's claim certificates that are in force."""
    rows = await tx.fetch_all(
        "SELECT serial FROM certificates"
        " WHERE purpose = 'claim' AND domain = ? AND batch = ? AND state = ? ORDER BY serial",
        (batch.domain, batch.name, CertificateState.ACTIVE.value),
    )
    return tuple(columns.text(serial) for (serial,) in rows)


async def device_ids(tx: Transaction, batch: Batch) -> Sequence[str]:
    """Return the ids that are registered for a batch."""
    rows = await tx.fetch_all(
        "SELECT device_id FROM devices WHERE domain = ? AND batch = ? ORDER BY device_id",
        (batch.domain, batch.name),
    )
    return tuple(columns.text(device_id) for (device_id,) in rows)


def _batch(row: Row) -> Batch:
    domain, name, uses_allowed, uses, created_at, expires_at, closed_at, profile = row
    return Batch(
        domain=columns.text(domain),
        name=columns.text(name),
        uses_allowed=columns.optional_number(uses_allowed),
        uses=columns.number(uses),
        created_at=times.moment(created_at),
        expires_at=times.optional_moment(expires_at),
        closed_at=times.optional_moment(closed_at),
        profile=columns.text(profile),
    )
