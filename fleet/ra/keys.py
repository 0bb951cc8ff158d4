"""Refuses keys that must not be certified: another's, blocked ones, and those that were compromised.

A key in two hands is no identity, so its reuse is recorded and alarmed. Runs inside a unit of work.
"""

import logging
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core import events
from fleet.errors import RefusedError
from fleet.model import AuditEntry, CertificateState, RevocationReason
from fleet.ports import Transaction
from fleet.store import audit
from fleet.store.audit import AuditQuery
from fleet.store.certificates import CertificateRecord, with_key
from fleet.store.keys import blocked_because

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """Who wants a certificate for which key."""

    identity: Identity
    key_hash: str
    actor: str
    at: datetime


async def key_refusal(tx: Transaction, use: KeyUse) -> events.Nothing | None:
    """Return why the key is refused for this device, or None; reuse is put on the audit trail."""
    if (why := await blocked_because(tx, use.key_hash)) is not None:
        return events.Nothing(code=ProblemCode.BAD_KEY, reason=f"this key is blocked: {why}")
    rows = await with_key(tx, use.key_hash)
    others = [row for row in rows if row.identity != use.identity]
    if others:
        await _alarm(tx, use, others[0])
        return events.Nothing(code=ProblemCode.KEY_IN_USE, reason="this key is another's")
    if any(_was_compromised(row) for row in rows):
        return events.Nothing(code=ProblemCode.BAD_KEY, reason="this key was compromised")
    return None


async def require_unblocked(tx: Transaction, key_hash: str) -> None:
    """Refuse a blocked key, whatever it is to be certified for; raises `RefusedError`."""
    if (why := await blocked_because(tx, key_hash)) is not None:
        raise RefusedError(
            f"this key is blocked: {why}", hint="make a new key: fleet key list", code=ProblemCode.BAD_KEY
        )


async def _alarm(tx: Transaction, use: KeyUse, other: CertificateRecord) -> None:
    """Tell of it once: whoever goes on asking must not fill the disk."""
    entry = _reuse(use, other)
    same = AuditQuery(
        domain=entry.domain,
        device_id=entry.device_id,
        serial=entry.serial,
        action=entry.action,
        limit=1,
    )
    if not await audit.search(tx, same):
        await audit.append(tx, entry)
        _log.error("%s asks with the key of %s: an operator must look", use.identity.name, other.name)


def _was_compromised(row: CertificateRecord) -> bool:
    return row.state is CertificateState.REVOKED and row.reason is RevocationReason.KEY_COMPROMISE


def _reuse(use: KeyUse, other: CertificateRecord) -> AuditEntry:
    return AuditEntry(
        at=use.at,
        action="key.reused",
        actor=use.actor,
        domain=use.identity.domain,
        device_id=use.identity.device_id,
        serial=other.serial,
        details=(("key_hash", use.key_hash), ("held_by", other.name)),
    )
