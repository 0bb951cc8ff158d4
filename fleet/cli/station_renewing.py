"""A station that begins to work: the way to its server, and a certificate that is good and stays so."""

import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from fleet.cli.workplace import Workplace
from fleet.errors import FleetError
from fleet.station.server.renewal import Renewal, load_in_force, require_in_date
from fleet.station.server.way import Way

_log = logging.getLogger(__name__)


async def renewing(stack: AsyncExitStack, place: Workplace) -> Renewal:
    """Return what keeps a station's certificate good; one that is due is renewed before anything else.

    Where that fails the station goes on with the one that it has, as long as that is good. In the server's
    home one that has ended is renewed too: there the home is the proof.

    Raises:
        RefusedError: the certificate has ended, with how the station gets another.
        FleetError: its files, its token or the server's address cannot be used.
    """
    renewal = await renewal_of(stack, place)
    if place.home is None:
        require_in_date(renewal.identity, now=now())
    try:
        await renewal.look(nobody_else)
    except FleetError as error:
        _log.warning("the station's certificate was not renewed: %s", error)
    require_in_date(renewal.identity, now=now())
    return renewal


async def renewal_of(stack: AsyncExitStack, place: Workplace) -> Renewal:
    """Return a station's renewal and the way to its server, as they are; raises as `renewing`."""
    identity = load_in_force(place.files)
    way = await stack.enter_async_context(Way.opened(place.server))
    return Renewal(way, identity, files=place.files, server=place.server_again, clock=now)


def nobody_else(_: object) -> None:
    """Take an identity for nobody: whoever comes after asks the renewal who the station is."""


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
