"""Suspends all devices that fit a query, alone where that is little, or once a second operator agreed."""

import asyncio
from dataclasses import dataclass

from device_agent.wire.identity import Identity
from fleet.core.proposal import ActKind
from fleet.errors import NotFoundError, RefusedError
from fleet.model import CutOff, Role
from fleet.ra.acts.deciding import Performer
from fleet.ra.acts.guard import MassAct, require_second
from fleet.ra.context import Context
from fleet.ra.devices import suspend
from fleet.ra.selection import by_query, selected
from fleet.store.proposals import ProposalRecord

_QUERY, _REASON = "query", "reason"
_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendOrder:
    """Which devices are to be kept out, and why."""

    query: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """What it did: `passed_over` were retired, and are out already."""

    names: tuple[str, ...]
    passed_over: tuple[str, ...]
    cut_offs: tuple[CutOff, ...]


async def suspend_or_propose(context: Context, order: SuspendOrder, *, actor: str) -> Suspended:
    """Suspend what fits, exactly as it was counted.

    Raises:
        ProposedError: it is much, and waits for a second operator.
        NotFoundError: nothing fits.
        BadInputError: it is no query, or selects everything without saying so.
    """
    identities = await context.store.search(selected, by_query(order.query, now=context.clock()))
    if not identities:
        raise NotFoundError("nothing fits the query", hint="fleet device list --query shows what does")
    act = MassAct(
        kind=ActKind.SUSPEND,
        identities=identities,
        selection=order.query,
        role=Role.OPERATOR,
        parameters=((_QUERY, order.query), (_REASON, order.reason)),
        reason=order.reason,
    )
    await require_second(context, act, actor=actor)
    return await _suspend(context, identities, actor=actor, reason=order.reason)


async def _suspend(
    context: Context, identities: tuple[Identity, ...], *, actor: str, reason: str
) -> Suspended:
    names, passed_over, cut_offs = list[str](), list[str](), list[CutOff]()

    async def one(identity: Identity) -> None:
        try:
            cut_offs.extend((await suspend(context, identity, actor=actor, reason=reason)).cut_offs)
            names.append(identity.name)
        except RefusedError:
            passed_over.append(identity.name)

    for start in range(0, len(identities), _AT_ONCE):
        # Handed in together, they share a commit.
        await asyncio.gather(*map(one, identities[start : start + _AT_ONCE]))
    return Suspended(
        names=tuple(sorted(names)), passed_over=tuple(sorted(passed_over)), cut_offs=tuple(cut_offs)
    )


async def _find(context: Context, proposal: ProposalRecord) -> tuple[Identity, ...]:
    return await context.store.search(selected, by_query(proposal.parameter(_QUERY), now=context.clock()))


async def _perform(context: Context, proposal: ProposalRecord, identities: tuple[Identity, ...]) -> str:
    done = await _suspend(context, identities, actor=proposal.proposed_by, reason=proposal.parameter(_REASON))
    return f"{len(done.names)} devices suspended, {len(done.cut_offs)} sessions ended"


PERFORMER = Performer(find=_find, perform=_perform)
