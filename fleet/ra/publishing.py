"""Makes the revocation lists: the public one of each issuing CA, and the one for cause that brokers get.

It never decides what is revoked; it joins what the store holds under a signature. Both lists of an issuer
take their numbers from one counter, so that neither goes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.ca.crl import make_crl
from fleet.ca.hierarchy import Authority
from fleet.ca.issuer import Issuer
from fleet.config import Config
from fleet.errors import FleetError
from fleet.model import Purpose
from fleet.ports import Store, Transaction
from fleet.ra.context import Context
from fleet.ra.crls import CrlBook, Missing, PublishedCrl
from fleet.store.revocations import (
    CrlQuery,
    StoredCrl,
    list_revocations,
    next_crl_number,
    save_crl,
)

_AT_BROKERS = frozenset({Purpose.DEVICE, Purpose.CLAIM, Purpose.SERVICE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """All that making lists needs; there before any broker is."""

    store: Store
    authority: Authority
    config: Config


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    number: int
    entries: tuple[bytes, ...]


def press_of(context: Context) -> Press:
    """Return what a running service makes its lists with."""
    return Press(store=context.store, authority=context.authority, config=context.config)


async def publish(context: Context) -> tuple[PublishedCrl, ...]:
    """Make all lists anew: put the public ones in force, give the brokers theirs.

    Raises:
        FleetError: a broker did not take its lists; the public ones are in force all the same.
    """
    now = context.clock()
    published = await make_public(press_of(context), context.crls, now=now)
    context.crls.begin(Missing.FOR_BROKERS)
    try:
        await context.broker.publish_crls(await make_for_brokers(press_of(context), now=now))
    except FleetError:
        context.crls.note_change()  # they do not have it yet: it is tried again
        raise
    return published


async def make_public(press: Press, book: CrlBook, *, now: datetime) -> tuple[PublishedCrl, ...]:
    """Make the public list of every issuing CA, keep it in the store, and put it in force."""
    made = []
    book.begin(Missing.PUBLIC)
    for issuer in press.authority.listed:
        crl = await _make(press, issuer, CrlQuery(issuer=issuer.issuer_id, now=now))
        stored = StoredCrl(
            issuer=crl.issuer,
            number=crl.number,
            this_update=crl.this_update,
            next_update=crl.next_update,
            der=crl.der,
        )
        await press.store.write(save_crl, stored)
        book.put(crl)
        made.append(crl)
    return tuple(made)


async def make_for_brokers(press: Press, *, now: datetime) -> Sequence[bytes]:
    """Make the lists that brokers check in the handshake: what was revoked for cause, no more.

    What a renewal superseded is refused by the guard's allowlist, which also tells us of it; a refusal
    inside TLS would not (PROTOCOL.md 7).
    """
    made = []
    for issuer in press.authority.admitted:
        if issuer.purpose not in _AT_BROKERS:
            continue
        query = CrlQuery(issuer=issuer.issuer_id, now=now, for_cause_only=True)
        made.append((await _make(press, issuer, query)).der)
    return tuple(made)


async def _make(press: Press, issuer: Issuer, query: CrlQuery) -> PublishedCrl:
    contents = await press.store.write(_contents, query)
    this_update = query.now.replace(microsecond=0)
    next_update = this_update + press.config.policy.crl_lifetime
    der = make_crl(
        issuer,
        contents.entries,
        number=contents.number,
        this_update=this_update,
        next_update=next_update,
    )
    return PublishedCrl(
        issuer=issuer.issuer_id,
        der=der,
        number=contents.number,
        this_update=this_update,
        next_update=next_update,
    )


async def _contents(tx: Transaction, query: CrlQuery) -> _Contents:
    """Take a number and what the list holds at that moment, in one commit."""
    found = await list_revocations(tx, query)
    number = await next_crl_number(tx, query.issuer)
    return _Contents(number=number, entries=tuple(revocation.entry for revocation in found))
