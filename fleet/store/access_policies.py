"""Every access policy that was in force, the last of which is; a policy is never changed, but followed."""

import json
from dataclasses import dataclass
from datetime import datetime

from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "number, text, digest, asks, applied_at, actor"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecord:
    """A policy as it was written; `asks` are the facts by which it tells certificates apart."""

    number: int
    text: str
    digest: str
    """SHA-256 of the text, hex."""
    asks: tuple[str, ...]
    applied_at: datetime
    actor: str


async def newest_policy(tx: Transaction, _argument: None) -> PolicyRecord | None:
    """Return the policy in force, or None where nobody wrote one."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM access_policies ORDER BY number DESC LIMIT 1")
    return None if row is None else _record(row)


async def load_policy(tx: Transaction, number: int) -> PolicyRecord | None:
    """Return the policy of a number."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM access_policies WHERE number = ?", (number,))
    return None if row is None else _record(row)


async def list_policies(tx: Transaction, limit: int) -> tuple[PolicyRecord, ...]:
    """Return the policies, the last one first."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM access_policies ORDER BY number DESC LIMIT ?", (limit,)
    )
    return tuple(_record(row) for row in rows)


async def insert_policy(tx: Transaction, policy: PolicyRecord) -> None:
    """Put a policy in force; its number is the next one."""
    await tx.execute(
        f"INSERT INTO access_policies ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
        (
            policy.number,
            policy.text,
            policy.digest,
            json.dumps(policy.asks),
            times.text(policy.applied_at),
            policy.actor,
        ),
    )


def _record(row: Row) -> PolicyRecord:
    number, text, digest, asks, applied_at, actor = row
    return PolicyRecord(
        number=columns.number(number),
        text=columns.text(text),
        digest=columns.text(digest),
        asks=tuple(map(str, json.loads(columns.text(asks)))),
        applied_at=times.moment(applied_at),
        actor=columns.text(actor),
    )
