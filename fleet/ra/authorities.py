"""Roots and issuing CAs at work: what is on record, and how a change of it takes effect at once.

Every part of the service reads `context.authority` anew for each request, so that one step replaces it.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from fleet.ca.hierarchy import Authority
from fleet.ca.loading import load_authority
from fleet.core.authority import ISSUES, AuthorityRecord, AuthorityState
from fleet.errors import FleetError
from fleet.ra.context import Context
from fleet.ra.publishing import publish
from fleet.ra.trust_files import write_trust
from fleet.store.authorities import list_authorities

_log = logging.getLogger(__name__)


async def reload_authority(context: Context) -> None:
    """Put in force what stands on record and in the files now; nobody is disconnected by it.

    A CA that has just become active is made known first, to brokers and listeners, and signs after that:
    no device gets a certificate that its broker does not take yet. One that stopped signs nothing from the
    commit on that recorded it.

    Raises:
        FleetError: a file or a key is not right; what was in force stays so.
    """
    records = await context.store.read(list_authorities, None)
    authority = await _loaded(context, records)
    known = await _loaded(context, _held_back(records, context.authority))
    await asyncio.to_thread(write_trust, context.home, authority)
    context.in_force.replace(authority=known)
    try:
        await context.tls_users.reload()
        await publish(context)
    except FleetError as error:
        # The brokers get it when they are back, as every list; it is no reason not to sign.
        _log.warning("the authorities changed, and a broker does not know it yet: %s", error)
    context.in_force.replace(authority=authority)


async def _loaded(context: Context, records: Sequence[AuthorityRecord]) -> Authority:
    authority = load_authority(context.home, fleet=context.fleet, keys=context.in_force.keys, records=records)
    await asyncio.to_thread(authority.unlock)  # key derivation takes a while on purpose
    return authority


def _held_back(records: Sequence[AuthorityRecord], before: Authority) -> tuple[AuthorityRecord, ...]:
    """Return the records, in which a CA that did not sign before is known, and does not sign yet."""
    signing = {issuer.issuer_id for issuer in before.issuers if issuer.state in ISSUES}
    return tuple(
        replace(record, state=AuthorityState.RETIRING)
        if record.state in ISSUES and not record.is_root and record.issuer not in signing
        else record
        for record in records
    )
