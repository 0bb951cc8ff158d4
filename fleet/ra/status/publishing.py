"""Keeps every revocation list right: the public ones before they grow old, the brokers' as soon as they miss
something."""

import asyncio
import logging

from fleet.errors import FleetError
from fleet.ra.context import Context
from fleet.ra.crls import PublishedCrl
from fleet.ra.status.broker_lists import give_to_brokers
from fleet.ra.status.press import press_of
from fleet.ra.status.public_lists import make_public
from fleet.store import revocations

_REST_SECONDS = 0.5
"""Revocations that come one after another share the brokers' lists."""
_RETRY_SECONDS = 5.0

_log = logging.getLogger(__name__)


async def publish(context: Context) -> tuple[PublishedCrl, ...]:
    """Make all lists anew: put the public ones in force, give the brokers theirs.

    Raises:
        FleetError: a broker did not take its lists; the public ones are in force all the same.
    """
    context.crls.note_change()
    published = await make_public(press_of(context), context.crls, now=context.clock())
    await give_to_brokers(context)
    return published


async def refresh_lists(context: Context) -> None:
    """Make the lists anew that are half through their life, and give the brokers what they miss.

    Raises:
        FleetError: a list cannot be made, or a broker did not take its own.
    """
    context.crls.compare(await context.store.read(revocations.changes, None))
    try:
        if _is_one_old(context):
            await make_public(press_of(context), context.crls, now=context.clock())
    finally:
        await give_to_brokers(context)


async def keep_published(context: Context) -> None:
    """Give the brokers what they miss within a second, again and again, until cancelled."""
    while True:
        await context.crls.wanted.wait()
        await asyncio.sleep(_REST_SECONDS if await try_to_give(context) else _RETRY_SECONDS)


async def try_to_give(context: Context) -> bool:
    """Give the brokers what they miss, and return whether they have it; if not, it is tried again."""
    try:
        await give_to_brokers(context)
    except FleetError as error:
        _log.warning("a broker does not have its revocation lists yet: %s", error)
        return False
    return True


def _is_one_old(context: Context) -> bool:
    now, listed = context.clock(), context.authority.listed
    found = [context.crls.find(issuer.issuer_id) for issuer in listed]
    return not all(crl is not None and crl.is_fresh(now) for crl in found)
