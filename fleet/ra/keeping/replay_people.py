"""What acts about people's second factors and about proposals did, to be done again from their audit entries.

A second factor that was made after the backup cannot come back: the trail tells no secret.
"""

from collections.abc import Mapping
from dataclasses import replace

from fleet.core.proposal import ProposalState
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.store import proposals, second_factors

_ENDED: Mapping[str, ProposalState] = {
    # Whether it was done, the next entry tells; if none does, it is for people to look and to propose it anew.
    "proposal.approved": ProposalState.OUTDATED,
    "proposal.done": ProposalState.DONE,
    "proposal.rejected": ProposalState.REJECTED,
    "proposal.withdrawn": ProposalState.WITHDRAWN,
    "proposal.expired": ProposalState.EXPIRED,
    "proposal.outdated": ProposalState.OUTDATED,
}


async def end_proposal(tx: Transaction, entry: AuditEntry) -> None:
    """Let a proposal that the backup holds open be no longer so: nothing is approved by a restore."""
    known = await proposals.load_proposal(tx, dict(entry.details)["proposal"])
    if known is not None:
        await proposals.save_decision(
            tx,
            replace(known, state=_ENDED[entry.action], decided_by=entry.actor, decided_at=entry.at),
        )


async def remove_factor(tx: Transaction, entry: AuditEntry) -> None:
    """Forget a second factor again."""
    await second_factors.drop_factor(tx, dict(entry.details)["name"])
