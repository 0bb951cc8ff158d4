"""A restored fleet whose latest past nobody has proven: devices get nothing until an operator says so.

What was revoked after the backup may be unknown here, so a renewal could hand a thief a fresh certificate.
"""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.problems import ProblemCode
from fleet.core import events
from fleet.errors import RefusedError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.store import audit
from fleet.store.meta import get_meta, set_meta

WITHOUT_TRAIL = "none: frozen"
"""What the audit entry of a restore says of its trail, where it had none."""

_NAME = "restore_gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closing:
    actor: str
    reason: str
    at: datetime


async def open_gap(tx: Transaction, since: str) -> None:
    """Note that nothing is known of what happened after a time, RFC 3339."""
    await set_meta(tx, _NAME, since)


async def end_gap(tx: Transaction) -> None:
    """Note that an operator has looked."""
    await set_meta(tx, _NAME, "")


async def gap_since(tx: Transaction, _argument: None = None) -> str:
    """Return since when nothing is known; empty where everything is."""
    return await get_meta(tx, _NAME) or ""


async def gap_refusal(tx: Transaction) -> events.Nothing | None:
    """Return why no device gets a certificate now, or None."""
    if not await gap_since(tx):
        return None
    reason = "this fleet was restored without its latest audit trail: an operator must look first"
    return events.Nothing(code=ProblemCode.FROZEN, reason=reason)


async def close_gap(desk: Desk, *, actor: str, reason: str) -> str:
    """Let devices enroll and renew again; return since when nothing was known.

    Raises:
        RefusedError: there is no gap.
    """
    return await desk.store.write(_close, _Closing(actor=actor, reason=reason, at=desk.clock()))


async def _close(tx: Transaction, closing: _Closing) -> str:
    since = await gap_since(tx)
    if not since:
        raise RefusedError("nothing is frozen: this fleet has no gap in its past", hint="fleet doctor")
    await end_gap(tx)
    details = tuple((name, value) for name, value in (("since", since), ("reason", closing.reason)) if value)
    entry = AuditEntry(at=closing.at, action="fleet.unfrozen", actor=closing.actor, details=details)
    await audit.append(tx, entry)
    return since
