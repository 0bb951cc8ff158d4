"""What `[retention]` lets go: old entries of the audit trail, and bytes of certificates that are long over.

Neither takes a proof away: the trail's hashes stay, and so do the fingerprint, the dates and the fate of each
certificate. By default nothing goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.keeping.archiving import archive, finish
from fleet.store import audit, audit_archive, pruning
from fleet.store.pruning import OldQuery

ACTOR = "server"
_SLACK = timedelta(days=7)
"""Entries are archived a week's worth at a time, so that there are no more than some 50 files a year."""


async def let_go(context: Context) -> None:
    """Archive and drop what is older than `[retention]` says; called once a day. Raises `FleetError`."""
    await finish(context)
    rules = context.config.retention
    if rules.audit is not None and await _is_due(context, rules.audit + _SLACK):
        await archive(context, older=rules.audit, actor=ACTOR)
    if rules.certificates is not None:
        await drop_certificates(context, older=rules.certificates)


async def _is_due(context: Context, older: timedelta) -> bool:
    first = await context.store.read(audit_archive.end, None)
    return first < await context.store.read(audit_archive.first_since, context.clock() - older)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dropped:
    serials: Sequence[str]
    at: datetime


async def drop_certificates(context: Context, *, older: timedelta) -> int:
    """Let the bytes of devices' certificates go that ended so long ago; return how many they were."""
    now, count, last = context.clock(), 0, ""
    while serials := await context.store.read(
        pruning.with_bytes, OldQuery(ended_before=now - older, after=last)
    ):
        await context.store.write(_drop, _Dropped(serials=serials, at=now))
        count, last = count + len(serials), serials[-1]
    return count


async def _drop(tx: Transaction, dropped: _Dropped) -> None:
    serials = dropped.serials
    await pruning.drop_bytes(tx, serials)
    details = (("count", str(len(serials))), ("first", serials[0]), ("last", serials[-1]))
    await audit.append(
        tx, AuditEntry(at=dropped.at, action="certificate.bytes-dropped", actor=ACTOR, details=details)
    )
