"""Posts retained notices: when a device's certificate is to be renewed, and which trust bundles are in force.

What is to be told stands in the store; what was posted is noted there too, so that a stop loses none, and
a server that comes back goes on where it stood. It never decides what is wanted.
"""

import logging
from datetime import datetime

from device_agent.wire.identity import Identity
from device_agent.wire.notices import Notice
from device_agent.wire.topics import OperationalTopics
from device_agent.wire.trust import FLEET_REALM, TrustBundle
from fleet.errors import FleetError
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.issuing import renew_after
from fleet.store.certificates import CertificateRecord, SignedCertificate, load_certificate
from fleet.store.choices import bundle_chosen, configuration_of
from fleet.store.notices import WantedNotice, early_renewal, note_posted, wanted_notices
from fleet.store.trust import bundles_in_force

MOST_AT_ONCE = 2000
"""In one go, so that a fleet of any size leaves room for other duties."""
_PAGE = 200

_log = logging.getLogger(__name__)


async def post_notices(context: Context, *, most: int = MOST_AT_ONCE) -> int:
    """Post what is wanted, at most so many; return how many were posted.

    Raises:
        UnreachableError: no broker takes them now; what was posted is noted.
    """
    done = 0
    while done < most and (page := await context.store.read(wanted_notices, min(_PAGE, most - done))):
        posted: list[WantedNotice] = []
        try:
            for wanted in page:
                await _post(context, wanted)
                posted.append(wanted)
        finally:
            await context.store.write(note_posted, posted)
        done += len(posted)
    return done


async def post_soon(context: Context) -> None:
    """Post the first of what is wanted before an order is answered; housekeeping posts the rest."""
    if not context.answering():
        return
    try:
        await post_notices(context, most=_PAGE)
    except FleetError as error:
        _log.warning("notices are posted when the broker is back: %s", error)


async def due_at(context: Context, row: CertificateRecord, signed: SignedCertificate) -> datetime:
    """Return when a certificate is to be renewed: in its time, or earlier where its CA was given up."""
    early = await context.store.read(early_renewal, row.serial)
    regular = renew_after(context, row.domain, signed)
    return regular if early is None else min(early, regular)


async def bundles_for(tx: Transaction, identity: Identity) -> tuple[TrustBundle, ...]:
    """Return the bundles that a device is told of: those in force, or one ahead of them that was chosen."""
    found = await bundles_in_force(tx, (identity.domain, FLEET_REALM))
    early = await bundle_chosen(tx, identity)
    if early is None or any(one.realm == early.realm and one.version >= early.version for one in found):
        return found
    return (*(one for one in found if one.realm != early.realm), early)


async def _post(context: Context, wanted: WantedNotice) -> None:
    row = await context.store.read(load_certificate, wanted.serial)
    if row is None or row.signed is None:
        return
    configuration = await context.store.read(configuration_of, wanted.identity)
    notice = Notice(
        serial=wanted.serial,
        renew_after=await due_at(context, row, row.signed),
        bundles=await context.store.read(bundles_for, wanted.identity),
        configuration=None if configuration is None else configuration.wanted,
    )
    topics = OperationalTopics(identity=wanted.identity, serial=wanted.serial)
    await context.post(topics.notice, notice.encode())
