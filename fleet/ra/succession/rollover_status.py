"""Where rollovers stand: who holds which bundle, who still needs the old CA, who refused a bundle."""

from dataclasses import dataclass

from device_agent.wire.trust import TrustBundle
from fleet.core.rollover import Heard, Need, Rollover
from fleet.errors import NotFoundError
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.succession.rollover_steps import newest_anchor, require_rollover, standing
from fleet.store.authorities import list_authorities
from fleet.store.notices import count_due, count_wanted
from fleet.store.rollovers import NAMED, list_rollovers
from fleet.store.trust import bundles_in_force, distrustful


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One rollover, and the fleet's part in it."""

    rollover: Rollover
    heard: Heard
    need: Need
    refused: tuple[tuple[str, str], ...]
    """Devices that refused the last bundle, and why, in one word."""
    notices_left: int
    """Devices that are still to be told something."""
    hastened: int
    """Certificates of the old CA that are renewed before their time."""


async def list_all(context: Context) -> tuple[Rollover, ...]:
    """Return all rollovers, the oldest first."""
    return await context.store.read(list_rollovers, None)


async def show(context: Context, realm: str) -> Status:
    """Return where the newest rollover of a realm stands. Raises `NotFoundError`."""
    return await context.store.read(_show, (realm, newest_anchor(context, realm)))


async def bundle(context: Context, realm: str) -> TrustBundle:
    """Return the bundle of a realm that is in force. Raises `NotFoundError`."""
    found = await context.store.read(bundles_in_force, (realm,))
    if not found:
        raise NotFoundError(
            f"no trust bundle of {realm} is in force: its root was never rolled over",
            hint=f"trust/{realm}/root.pem is what devices trust",
        )
    return found[0]


async def _show(tx: Transaction, asked: tuple[str, str]) -> Status:
    realm, anchor = asked
    rollover = await require_rollover(tx, realm)
    heard, need = await standing(tx, rollover, anchor)
    issuers = [one.issuer for one in await list_authorities(tx) if one.folder in rollover.gives_up]
    return Status(
        rollover=rollover,
        heard=heard,
        need=need,
        refused=await distrustful(tx, NAMED),
        notices_left=await count_wanted(tx),
        hastened=sum([await count_due(tx, issuer) for issuer in issuers]),
    )
