"""Has all devices that fit a query renew before their time, alone if few, or once a second agreed."""

from dataclasses import dataclass
from datetime import timedelta

from device_agent.wire.identity import Identity
from fleet.core.proposal import ActKind
from fleet.errors import NotFoundError
from fleet.model import Role
from fleet.ra.acts.deciding import Performer
from fleet.ra.acts.guard import MassAct, require_second
from fleet.ra.context import Context
from fleet.ra.requests.hastening import HasteOfSome, hasten_some
from fleet.ra.selection import by_query, selected
from fleet.store.notices import due_among
from fleet.store.proposals import ProposalRecord

_QUERY, _WITHIN = "query", "within_seconds"
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewOrder:
    """Which devices are to renew, spread over how long."""

    query: str
    within: timedelta
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewing:
    """How many devices fit, and how many were made due by it: others were, or have nothing to renew."""

    found: int
    hastened: int


async def renew_or_propose(context: Context, order: RenewOrder, *, actor: str) -> Renewing:
    """Make what fits due, exactly as it was counted; whoever orders it again makes nothing due twice.

    Raises:
        ProposedError: it is much, and waits for a second operator.
        NotFoundError: nothing fits.
        BadInputError: it is no query, or selects everything without saying so.
    """
    identities = await context.store.search(selected, by_query(order.query, now=context.clock()))
    if not identities:
        raise NotFoundError("nothing fits the query", hint="fleet device list --query shows what does")
    seconds = str(round(order.within.total_seconds()))
    act = MassAct(
        kind=ActKind.RENEW,
        identities=await _renewable(context, identities),
        selection=order.query,
        role=Role.OPERATOR,
        parameters=((_QUERY, order.query), (_WITHIN, seconds)),
        reason=order.reason,
    )
    await require_second(context, act, actor=actor)
    return await _renew(context, identities, order.within, actor=actor)


async def _renewable(context: Context, identities: tuple[Identity, ...]) -> tuple[Identity, ...]:
    """Return those that have something to renew, and are not due yet: it is done to no others."""
    found: list[Identity] = []
    for start in range(0, len(identities), _AT_ONCE):
        part = identities[start : start + _AT_ONCE]
        found += [identity for identity, _ in await context.store.read(due_among, part)]
    return tuple(found)


async def _renew(
    context: Context, identities: tuple[Identity, ...], within: timedelta, *, actor: str
) -> Renewing:
    haste = HasteOfSome(identities=identities, begins=context.clock(), within=within, actor=actor)
    return Renewing(found=len(identities), hastened=await hasten_some(context, haste))


async def _find(context: Context, proposal: ProposalRecord) -> tuple[Identity, ...]:
    found = await context.store.search(selected, by_query(proposal.parameter(_QUERY), now=context.clock()))
    return await _renewable(context, found)


async def _perform(context: Context, proposal: ProposalRecord, identities: tuple[Identity, ...]) -> str:
    within = timedelta(seconds=int(proposal.parameter(_WITHIN)))
    done = await _renew(context, identities, within, actor=proposal.proposed_by)
    return f"{done.hastened} of {done.found} devices are due"


PERFORMER = Performer(find=_find, perform=_perform)
