"""Certificates of devices that ended long ago give up their bytes; what they were stays on record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.model import CertificateState, Purpose
from fleet.ports import Transaction
from fleet.store import columns, times

PAGE = 500
_OVER = (
    CertificateState.EXPIRED_FINAL,
    CertificateState.SUPERSEDED,
    CertificateState.SUPERSEDED_ACKED,
    CertificateState.DEAD,
    CertificateState.REVOKED,
)
"""Nothing in the life of a device looks at these again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldQuery:
    """Certificates that ended before a moment, and of them those with a higher serial."""

    ended_before: datetime
    after: str = ""


async def with_bytes(tx: Transaction, query: OldQuery) -> tuple[str, ...]:
    """Return the serials of a page of old certificates of devices whose bytes are here still."""
    marks = ", ".join("?" * len(_OVER))
    rows = await tx.fetch_all(
        "SELECT serial FROM certificates WHERE serial > ? AND purpose = ? AND not_after < ?"
        f" AND length(der) > 0 AND state IN ({marks}) ORDER BY serial LIMIT ?",
        (query.after, Purpose.DEVICE, times.text(query.ended_before), *_OVER, PAGE),
    )
    return tuple(columns.text(serial) for (serial,) in rows)


async def drop_bytes(tx: Transaction, serials: Sequence[str]) -> None:
    """Let the bytes of certificates go; fingerprint, dates and fate stay."""
    await tx.execute_many(
        "UPDATE certificates SET der = ? WHERE serial = ?", [(b"", serial) for serial in serials]
    )
