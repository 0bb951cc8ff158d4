"""Makes the public revocation lists when they are asked for: each issuing CA's, its parts, and its delta.

A list that is handed out holds all that was committed before, and is not half through its life: it is made
anew if need be, so that neither a stop nor a clock that jumped leaves an old one behind.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.ca.crl import Scope, make_crl
from fleet.ca.issuer import Issuer
from fleet.core.authority import ADMITTED
from fleet.core.partition import shards_of
from fleet.errors import FleetError
from fleet.ra.crls import CrlBook, ListName, PublishedCrl
from fleet.ra.status.press import BACKDATE, Press
from fleet.store.crl_entries import (
    ChangeQuery,
    ShardQuery,
    Turn,
    TurnOrder,
    changes_since,
    entries_in,
    note_turn,
    take_turn,
)
from fleet.store.status_urls import status_urls

_READ_IN = range(16, 32)
"""A complete list is read in these parts: bounded memory, and no reader is busy for long."""
_REST_FACTOR = 4
_LONGEST_REST = timedelta(seconds=0.5)

_log = logging.getLogger(__name__)


async def make_public(press: Press, book: CrlBook, *, now: datetime) -> tuple[PublishedCrl, ...]:
    """Bring the complete list of every issuing CA up to date.

    Raises:
        FleetError: the list of a CA whose leaves are let in cannot be made.
    """
    made = []
    for issuer in press.authority.listed:
        try:
            made.append(await current_list(press, book, ListName(issuer=issuer.issuer_id), now=now))
        except FleetError as error:
            if issuer.state in ADMITTED:
                raise
            _log.warning("there is no new revocation list of %s: %s", issuer.issuer_id, error)
    return tuple(made)


async def current_list(press: Press, book: CrlBook, name: ListName, *, now: datetime) -> PublishedCrl:
    """Return a list as it has to be now; raises `NotFoundError` where there is no such CA.

    Raises:
        FleetError: it cannot be made, and the one before is not valid any more.
    """
    found = book.newest(name)
    if found is not None and found.is_fresh(now) and book.is_whole(name):
        return found
    issuer = press.authority.issuer_by_id(name.issuer)
    async with book.making.of(f"{name.issuer} {name.partition or ''}"):
        found = book.newest(name)
        if found is not None and found.is_fresh(now):
            if book.is_whole(name):  # somebody else had it made
                return found
            await _rest(book.rests_until(name))
        try:
            await _make(_Making(press=press, book=book, issuer=issuer, now=now), name)
        except FleetError as error:
            if found is None or not found.this_update <= now < found.next_update:
                raise
            _log.error("the revocation list %s stays as it was: %s", name.path, error)
            return found
    return _there(book.newest(name))


def _there(made: PublishedCrl | None) -> PublishedCrl:
    assert made is not None  # noqa: S101 - it was put there a moment ago
    return made


async def _rest(until: float) -> None:
    """Wait where a list takes long to make and is asked for all the time: it is never handed out old."""
    await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Making:
    press: Press
    book: CrlBook
    issuer: Issuer
    now: datetime

    @property
    def made_at(self) -> datetime:
        return self.now.replace(microsecond=0)

    @property
    def lifetime(self) -> timedelta:
        return self.press.config.policy.crl_lifetime

    @property
    def complete(self) -> ListName:
        return ListName(issuer=self.issuer.issuer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """A list before it is signed."""

    name: ListName
    entries: Sequence[bytes]
    turn: Turn
    scope: Scope


async def _make(making: _Making, name: ListName) -> None:
    started, change = asyncio.get_running_loop().time(), making.book.change
    sheets = await (_whole(making) if name.partition is None else _part(making, name, name.partition))
    for sheet in sheets:
        crl = await asyncio.to_thread(_signed, making, sheet)
        took = asyncio.get_running_loop().time() - started
        rest = min(_REST_FACTOR * took, _LONGEST_REST.total_seconds())
        making.book.put(crl, change=change, rests_until=started + took + rest)
        if sheet.turn.is_due and not sheet.name.part:
            await making.press.store.write(note_turn, sheet.turn)


async def _whole(making: _Making) -> tuple[_Sheet, ...]:
    """Return the complete list and its delta, which have one number (RFC 5280 5.2.4)."""
    store, issuer = making.press.store, making.issuer.issuer_id
    order = TurnOrder(issuer=issuer, at=making.made_at, interval=making.lifetime / 2)
    turn = await store.write(take_turn, order)
    entries = [await _entries(making, turn, part) for part in _READ_IN]
    changed = ChangeQuery(issuer=issuer, since=turn.base_number, ends_from=turn.ends_from)
    delta = making.complete.delta
    whole = Scope(leaves_only=True, freshest=f"{making.press.status_url}{delta.path}")
    return (
        _Sheet(name=making.complete, entries=entries, turn=turn, scope=whole),
        _Sheet(
            name=delta,
            entries=[(await store.read(changes_since, changed)).der],
            turn=turn,
            scope=Scope(leaves_only=True, base_number=turn.base_number),
        ),
    )


async def _part(making: _Making, name: ListName, partition: int) -> tuple[_Sheet, ...]:
    """Return one part, which goes by every name that a leaf may have for it (RFC 5280 5.2.5)."""
    store = making.press.store
    turn = await store.write(take_turn, TurnOrder(issuer=name.issuer, at=making.made_at))
    urls = dict.fromkeys((making.press.status_url, *await store.read(status_urls, None)))
    scope = Scope(leaves_only=True, places=tuple(f"{url}{name.path}" for url in urls))
    entries = [await _entries(making, turn, partition)]
    return (_Sheet(name=name, entries=entries, turn=turn, scope=scope),)


async def _entries(making: _Making, turn: Turn, partition: int) -> bytes:
    first, last = shards_of(partition)
    query = ShardQuery(issuer=making.issuer.issuer_id, first=first, last=last, ends_from=turn.ends_from)
    return (await making.press.store.read(entries_in, query)).der


def _signed(making: _Making, sheet: _Sheet) -> PublishedCrl:
    this_update, next_update = making.made_at - BACKDATE, making.made_at + making.lifetime
    der = make_crl(
        making.issuer,
        sheet.entries,
        number=sheet.turn.number,
        this_update=this_update,
        next_update=next_update,
        scope=sheet.scope,
    )
    return PublishedCrl(
        name=sheet.name,
        der=der,
        number=sheet.turn.number,
        made_at=making.made_at,
        this_update=this_update,
        next_update=next_update,
    )
