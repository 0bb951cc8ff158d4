"""What acts about operators and about their proposals did, to be done again from their audit entries.

A second factor that was made after the backup cannot come back: the trail tells no secret.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from fleet.core.proposal import ProposalState
from fleet.core.readmission import ReadmissionState
from fleet.model import AuditEntry, Role
from fleet.ports import Transaction
from fleet.store import operators, proposals, readmissions, second_factors

_ENDED: Mapping[str, ProposalState] = {
    # Whether it was done, the next entry tells; if none does, people look, and propose it anew.
    "proposal.approved": ProposalState.OUTDATED,
    "proposal.done": ProposalState.DONE,
    "proposal.rejected": ProposalState.REJECTED,
    "proposal.withdrawn": ProposalState.WITHDRAWN,
    "proposal.expired": ProposalState.EXPIRED,
    "proposal.outdated": ProposalState.OUTDATED,
}


async def add_operator(tx: Transaction, entry: AuditEntry) -> None:
    """Let somebody act again."""
    details = dict(entry.details)
    record = operators.OperatorRecord(
        name=details["name"],
        role=Role(details["role"]),
        added_at=entry.at,
        added_by=entry.actor.removeprefix("operator:"),
    )
    await operators.insert_operator(tx, record)


async def remove_operator(tx: Transaction, entry: AuditEntry) -> None:
    """Let somebody act no more."""
    name = dict(entry.details)["name"]
    await operators.remove_operator(tx, name, at=entry.at)
    await second_factors.drop_factor(tx, name)


async def end_proposal(tx: Transaction, entry: AuditEntry) -> None:
    """Let a proposal that the backup holds open be no longer so: nothing is approved by a restore."""
    known = await proposals.load_proposal(tx, dict(entry.details)["proposal"])
    if known is not None:
        await proposals.save_decision(
            tx,
            replace(known, state=_ENDED[entry.action], decided_by=entry.actor, decided_at=entry.at),
        )


async def end_plea(tx: Transaction, entry: AuditEntry) -> None:
    """Let the plea of an operator that the backup holds open be no longer so."""
    known = await readmissions.load_readmission(tx, dict(entry.details)["readmission"])
    if known is not None:
        done = entry.action == "operator.readmitted"
        state = ReadmissionState.DONE if done else ReadmissionState.DENIED
        serial = entry.serial or None
        await readmissions.save_readmission(
            tx, replace(known, state=state, decided_at=entry.at, serial=serial)
        )


async def remove_factor(tx: Transaction, entry: AuditEntry) -> None:
    """Forget a second factor again."""
    await second_factors.drop_factor(tx, dict(entry.details)["name"])


EFFECTS: Mapping[str, Callable[[Transaction, AuditEntry], Awaitable[None]]] = {
    "operator.added": add_operator,
    "operator.removed": remove_operator,
    "operator.readmission-denied": end_plea,
    "operator.readmission-expired": end_plea,
    "operator.readmitted": end_plea,
    "operator.totp-removed": remove_factor,
    **dict.fromkeys(_ENDED, end_proposal),
}
TOLD_ONLY = frozenset(
    {
        "operator.readmission-asked",
        "operator.totp-made",
        "operator.totp-refused",
        "operator.vouch-refused",
        "operator.vouched",
        "proposal.failed",
        "proposal.made",
        "proposal.refused",
    }
)
"""Nothing is lost with these: what waited for others is asked for again."""
