"""Revokes what an operator names, alone where that is little, or once a second operator agreed."""

from dataclasses import dataclass

from device_agent.wire.identity import Identity
from fleet.core.proposal import ActKind
from fleet.model import RevocationReason, Role
from fleet.ra.acts.deciding import Performer
from fleet.ra.acts.guard import MassAct, require_second
from fleet.ra.context import Context
from fleet.ra.selection import ByDevice, Selection, by_query, find_targets
from fleet.ra.status.revoke import Receipt, revoke
from fleet.store.proposals import ProposalRecord

_QUERY, _REASON = "query", "reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeOrder:
    """What an operator wants revoked; `query` is the selection as text, where it is one."""

    selection: Selection
    query: str = ""
    reason: RevocationReason


async def revoke_or_propose(context: Context, order: RevokeOrder, *, actor: str) -> Receipt:
    """Revoke what the order names, exactly as it was counted.

    Raises:
        ProposedError: it is much, and waits for a second operator.
        FleetError: as `revoke` does.
    """
    if not order.query:
        return await revoke(context, order.selection, reason=order.reason, actor=actor)
    targets = await context.store.read(find_targets, order.selection)
    act = MassAct(
        kind=ActKind.REVOKE,
        identities=targets.identities,
        selection=order.query,
        role=Role.SECURITY,
        parameters=((_QUERY, order.query), (_REASON, order.reason.value)),
        reason=order.reason.value,
    )
    await require_second(context, act, actor=actor)
    counted = ByDevice(identities=targets.identities)
    return await revoke(context, counted, reason=order.reason, actor=actor)


async def _find(context: Context, proposal: ProposalRecord) -> tuple[Identity, ...]:
    selection = by_query(proposal.parameter(_QUERY), now=context.clock())
    targets = await context.store.read(find_targets, selection)
    return targets.identities


async def _perform(context: Context, proposal: ProposalRecord, identities: tuple[Identity, ...]) -> str:
    reason = RevocationReason(proposal.parameter(_REASON))
    selection = ByDevice(identities=identities)
    receipt = await revoke(context, selection, reason=reason, actor=proposal.proposed_by)
    return _said(receipt)


def _said(receipt: Receipt) -> str:
    slowest = max((session.cut_off_ms for session in receipt.sessions), default=0.0)
    cut = f"{len(receipt.sessions)} sessions ended within {slowest:.0f} ms"
    seen = "verified" if receipt.verified else f"not verified: {receipt.problem}"
    return f"{len(receipt.revoked)} certificates revoked, {cut}, {seen}"


PERFORMER = Performer(find=_find, perform=_perform)
