"""Makes up for an outage: what was to be renewed in it gets other moments, one after the other.

Whether renewals work is looked at with each round of housekeeping, and noted: a server that was away
itself finds out by its own note. What was moved is told by the devices' notices and by every answer.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.core.backlog import Drain, drain_of
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.meter import OK
from fleet.store import audit, times
from fleet.store.meta import get_meta, set_meta
from fleet.store.notices import want_notice
from fleet.store.windows import HeldQuery, HeldRenewal, Planned, count_anew, count_held, held, move

_NOTE = "renewals_worked_at"
_NOTED_EVERY = timedelta(minutes=1)
_RENEW, _UNAVAILABLE = "renew", "unavailable"

_log = logging.getLogger(__name__)


class Pulse:
    """Whether renewals work, as far as this process has seen by what it answered since the last look."""

    def __init__(self) -> None:
        self._failed = self._done = 0
        self._works = True

    def works(self, context: Context) -> bool:
        """Look: the broker carries requests, and of those that came some were signed."""
        answers = context.meter.answers
        failed, done = answers[_RENEW, _UNAVAILABLE], answers[_RENEW, OK]
        if done > self._done:
            self._works = True
        elif failed > self._failed:
            self._works = False
        self._failed, self._done = failed, done
        return self._works and context.answering()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    drain: Drain
    first: int
    """The place of the first one."""
    renewals: tuple[HeldRenewal, ...]

    def planned(self) -> list[Planned]:
        return [
            Planned(serial=one.serial, renew_after=self.drain.moment(self.first + place))
            for place, one in enumerate(self.renewals)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drained:
    at: datetime
    since: datetime
    count: int
    drain: Drain


async def look_after_windows(context: Context, pulse: Pulse) -> None:
    """Note that renewals work, and make up for an outage that has ended; raises `StoreError`."""
    if not pulse.works(context):
        return
    now = context.clock()
    noted = await context.store.read(get_meta, _NOTE)
    last = now if noted is None else times.moment(noted)
    if now - last >= context.config.windows.outage:
        await make_up(context, since=last)
    if noted is None or now - last >= _NOTED_EVERY:
        await context.store.write(_note, now)


async def make_up(context: Context, *, since: datetime) -> int:
    """Spread what was to be renewed since an outage began, from now on; return how much that is.

    Raises:
        StoreError: some has been moved, and the rest when this is done again.
    """
    now = context.clock().replace(microsecond=0)
    query = HeldQuery(since=since, until=now)
    drain = drain_of(
        await context.store.read(count_held, query),
        begins=now + timedelta(seconds=1),
        a_second=context.config.windows.a_second,
    )
    count = 0
    while page := await context.store.read(held, query):
        await context.store.write(_move, _Page(drain=drain, first=count, renewals=page))
        count += len(page)
    if count:
        await context.store.write(_finish, _Drained(at=now, since=since, count=count, drain=drain))
        _log.warning("%d renewals were held up since %s; %.1f a second now", count, since, drain.a_second)
    return count


async def _move(tx: Transaction, page: _Page) -> None:
    await move(tx, page.planned())
    for one in page.renewals:
        await want_notice(tx, one.identity)


async def _finish(tx: Transaction, drained: _Drained) -> None:
    await count_anew(tx, drained.at)
    details = (
        ("devices", str(drained.count)),
        ("since", times.text(drained.since)),
        ("until", times.text(drained.drain.moment(drained.count))),
        ("a_second", f"{drained.drain.a_second:.1f}"),
    )
    await audit.append(
        tx, AuditEntry(at=drained.at, action="renewals.moved", actor="server", details=details)
    )


async def _note(tx: Transaction, at: datetime) -> None:
    await set_meta(tx, _NOTE, times.text(at))
