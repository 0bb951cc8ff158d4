"""Makes the revocation lists that brokers check in the handshake: what was revoked for cause, up to a limit.

What a renewal superseded, and what is on hold, is refused by the guard's allowlist, which also tells us of
it; a refusal inside TLS would not (PROTOCOL.md 7). The guard is the enforcement, and these lists stand
behind it: where there is more than a broker reads fast, the newest are on them.
"""

from collections.abc import Sequence
from datetime import datetime

from fleet.ca.crl import make_crl
from fleet.ca.issuer import Issuer
from fleet.core.fair_share import fair_shares
from fleet.core.goodkey import PostQuantumKey
from fleet.model import Purpose
from fleet.ra.context import Context
from fleet.ra.crls import CrlBook
from fleet.ra.status.press import BACKDATE, Press, press_of
from fleet.store.crl_entries import CauseQuery, TurnOrder, newest_for_cause, take_turn

MOST_ENTRIES = 10_000
"""Of all of a broker's lists together: with ten times as many, a handshake takes twice as long."""
_AT_BROKERS = frozenset({Purpose.DEVICE, Purpose.CLAIM, Purpose.SERVICE})


async def make_for_brokers(press: Press, *, now: datetime) -> Sequence[bytes]:
    """Return the lists (DER) of the issuing CAs whose leaves come to brokers, one for each."""
    issuers = [one for one in press.authority.admitted if _comes_to_brokers(one)]
    numbers, found = [], []
    for issuer in issuers:
        order = TurnOrder(issuer=issuer.issuer_id, at=now)
        numbers.append((await press.store.write(take_turn, order)).number)
        query = CauseQuery(issuer=issuer.issuer_id, now=now, limit=MOST_ENTRIES)
        found.append(await press.store.read(newest_for_cause, query))
    shares = fair_shares([len(entries) for entries in found], most=MOST_ENTRIES)
    made_at = now.replace(microsecond=0)
    return [
        make_crl(
            issuer,
            entries[:share],
            number=number,
            this_update=made_at - BACKDATE,
            next_update=made_at + press.config.policy.crl_lifetime,
        )
        for issuer, number, entries, share in zip(issuers, numbers, found, shares, strict=True)
    ]


async def give_to_brokers(context: Context) -> None:
    """Give every broker its lists, if they miss something or are half through their life.

    Raises:
        FleetError: a broker did not take them; it is tried again.
    """
    book, now = context.crls, context.clock()
    async with book.making.of("brokers"):
        if not _is_due(book, context, now):
            return
        book.wanted.clear()  # what ends from here on is missing again
        is_taken = False
        try:
            await context.broker.publish_crls(await make_for_brokers(press_of(context), now=now))
            is_taken = True
        finally:
            if not is_taken:  # a cancelled request must not leave the brokers behind either
                book.wanted.set()
        book.brokers_until = now + context.config.policy.crl_lifetime


def _is_due(book: CrlBook, context: Context, now: datetime) -> bool:
    lifetime = context.config.policy.crl_lifetime
    until = book.brokers_until
    is_half_over = until is None or not lifetime / 2 < until - now <= lifetime
    return book.brokers_miss_something or is_half_over


def _comes_to_brokers(issuer: Issuer) -> bool:
    # No broker's TLS reads post-quantum signatures yet, and one list that it cannot read voids them all.
    return issuer.purpose in _AT_BROKERS and not isinstance(issuer.public_key, PostQuantumKey)
