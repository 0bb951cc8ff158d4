"""Keeps who connected and who was refused, in batches, beside everything else that the server does.

Whoever notes a contact waits for nothing: it is put into memory, and written some seconds later. A crash
loses what was not written yet; nothing is decided by it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from device_agent.wire.identity import parse_shown_serial
from device_agent.wire.problems import MalformedMessageError
from fleet.core.causes import Cause, of_guard
from fleet.core.history import Contact, contact, gathered
from fleet.errors import FleetError, log_level
from fleet.log import Event, about
from fleet.model import BrokerEvent, BrokerEventKind, CertificateState
from fleet.ports import Clock, Store, Transaction
from fleet.retention_sections import RetentionConfig
from fleet.store import contacts
from fleet.store.adopted import Shown, load_shown
from fleet.store.certificates import CertificateRecord, load_certificate
from fleet.store.contacts import Keeping
from fleet.store.devices import load_device

MOST_WAITING = 20_000
"""What comes beyond it before the next batch is counted, and not kept."""
BATCH_SECONDS = 2.0
PRUNE_EVERY = timedelta(hours=1)
STRANGERS = 20
"""So many times the rows of one device all strangers together may have."""
_log = logging.getLogger(__name__)

_AT_ONCE = 500
"""Rows in one unit of work, so that a request waits for few of them."""

_CHECKED = frozenset({Cause.EXPIRED, Cause.NOT_YET_VALID, Cause.REVOKED, Cause.OLD_LIST})
"""Causes that a server finds in a chain whose CA it knows; before that, a serial is a stranger's word."""
_BY_STATE = {
    CertificateState.REVOKED: Cause.REVOKED,
    CertificateState.SUPERSEDED: Cause.SUPERSEDED,
    CertificateState.SUPERSEDED_ACKED: Cause.SUPERSEDED,
    CertificateState.EXPIRED_UNUSED: Cause.EXPIRED,
    CertificateState.EXPIRED_GRACE: Cause.EXPIRED,
    CertificateState.EXPIRED_FINAL: Cause.EXPIRED,
}


class History:
    """What waits to be kept."""

    def __init__(self) -> None:
        self._waiting: list[Contact] = []
        self.lost = 0
        """Contacts that came while too many waited."""
        self.refusals: Counter[tuple[str, Cause]] = Counter()
        """Since the process began, by place and cause."""

    def note(self, one: Contact) -> None:
        """Keep a contact, soon."""
        self.count((one,))
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(one)
        else:
            self.lost += 1

    def count(self, found: Iterable[Contact]) -> None:
        """Count refusals that are kept already."""
        for one in found:
            if one.cause is not None:
                self.refusals[one.place, one.cause] += one.times

    def take(self) -> tuple[Contact, ...]:
        """Return what waits, which waits no more."""
        found, self._waiting = tuple(self._waiting), []
        return found


def contact_of(event: BrokerEvent, *, place: str) -> Contact:
    """Return the contact behind an event of a broker."""
    is_refusal = event.kind is BrokerEventKind.REFUSED
    return contact(
        kind=event.kind,
        place=place,
        at=event.at,
        cause=of_guard(event.reason) if is_refusal else None,
        ending="" if is_refusal else event.reason,
        name=event.name,
        issuer=event.issuer,
        serial=event.serial,
        address=event.address,
    )


async def keep_history(
    store: Store, history: History, *, clock: Clock, retention: Callable[[], RetentionConfig]
) -> None:
    """Write what waits and let go what is old, again and again; what is left when it is cancelled, too."""
    pruned_at = datetime.min.replace(tzinfo=UTC)
    try:
        while True:
            await asyncio.sleep(BATCH_SECONDS)
            await _flushed(store, history)
            if (now := clock()) - pruned_at >= PRUNE_EVERY:
                pruned_at = now
                await _pruned(store, retention(), now)
    finally:
        await _flushed(store, history)


async def _flushed(store: Store, history: History) -> None:
    try:
        await flush(store, history)
    except FleetError as error:
        # Kept in memory they would grow without bound; what happens next is kept again.
        lost = about(Event.HISTORY_LOST)
        _log.log(log_level(error), "connections could not be kept: %s", error, extra=lost)


async def flush(store: Store, history: History) -> None:
    """Write what waits now."""
    if waiting := history.take():
        told = await store.read(recognised, waiting)
        rows = gathered(told)
        for first in range(0, len(rows), _AT_ONCE):
            await store.write(contacts.keep, rows[first : first + _AT_ONCE])


async def _pruned(store: Store, retention: RetentionConfig, now: datetime) -> None:
    try:
        await prune(store, retention, now=now)
    except FleetError as error:
        _log.log(log_level(error), "old connections could not be let go: %s", error)


async def recognised(tx: Transaction, found: Sequence[Contact]) -> tuple[Contact, ...]:
    """Return contacts with what the records know of their certificates: whose, and what became of it."""
    known: dict[tuple[str, str], _Known | None] = {}
    for one in filter(_asks, found):
        shown = (one.issuer, one.serial)
        if shown not in known:
            known[shown] = await _known(tx, *shown)
    return tuple(_told(one, known[one.issuer, one.serial]) if _asks(one) else one for one in found)


def _asks(one: Contact) -> bool:
    if not one.serial or (one.device_id and one.cause is not Cause.NOT_ADMITTED):
        return False
    return bool(one.issuer) or one.cause in _CHECKED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    name: str
    domain: str
    device_id: str
    cause: Cause | None


async def _known(tx: Transaction, issuer: str, serial: str) -> _Known | None:
    try:
        number = parse_shown_serial(serial)
    except MalformedMessageError:
        return None
    # The log of another server tells no key identifier: there, the serial alone has to do.
    row = await (
        load_shown(tx, Shown(issuer=issuer, serial=number)) if issuer else load_certificate(tx, number)
    )
    if row is None:
        return None
    return _Known(name=row.name, domain=row.domain, device_id=row.device_id, cause=await _cause(tx, row))


async def _cause(tx: Transaction, row: CertificateRecord) -> Cause | None:
    if row.state in _BY_STATE or row.identity is None:
        return _BY_STATE.get(row.state)
    device = await load_device(tx, row.identity)
    return Cause.SUSPENDED if device is not None and device.suspended else None


def _told(one: Contact, known: _Known | None) -> Contact:
    if known is None:
        return one
    cause = known.cause if one.cause is Cause.NOT_ADMITTED and known.cause is not None else one.cause
    return replace(one, name=known.name, domain=known.domain, device_id=known.device_id, cause=cause)


async def prune(store: Store, retention: RetentionConfig, *, now: datetime) -> int:
    """Let go what is older than it is kept, and what is beyond a device's number; return how many rows."""
    keeping = Keeping(
        before=now - retention.connections,
        per_device=retention.connections_per_device,
        of_strangers=retention.connections_per_device * STRANGERS,
    )
    gone = 0
    while numbers := await store.read(contacts.surplus, keeping):
        await store.write(contacts.drop, numbers)
        gone += len(numbers)
    return gone
