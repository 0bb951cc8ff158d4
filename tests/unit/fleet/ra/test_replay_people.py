"""After a restore from an older backup: what others decided since is decided, and nothing approved by it."""

import pytest

from fleet.core.proposal import ProposalState
from fleet.core.readmission import ReadmissionState
from fleet.model import AuditEntry, RevocationReason, Role
from fleet.ra.acts import deciding
from fleet.ra.acts.guard import ProposedError
from fleet.ra.acts.revoking import RevokeOrder, revoke_or_propose
from fleet.ra.keeping.replay_people import EFFECTS, TOLD_ONLY
from fleet.ra.people.operators import add_operator
from fleet.ra.people.readmission import ask
from fleet.ra.people.second_factor import enroll, list_factors
from fleet.ra.selection import by_query
from fleet.store import readmissions
from tests.desk import NOON, Desk, Unit
from tests.unit.fleet.ra.test_acts import joined
from tests.unit.fleet.ra.test_readmission import plea

ADA = "operator:ada"


async def replay(desk: Desk, action: str, *, serial: str = "", **details: str) -> None:
    entry = AuditEntry(
        at=NOON, action=action, actor="operator:bob", serial=serial, details=tuple(details.items())
    )
    await desk.context.store.write(EFFECTS[action], entry)


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("proposal.approved", ProposalState.OUTDATED),
        ("proposal.done", ProposalState.DONE),
        ("proposal.rejected", ProposalState.REJECTED),
        ("proposal.withdrawn", ProposalState.WITHDRAWN),
        ("proposal.expired", ProposalState.EXPIRED),
        ("proposal.outdated", ProposalState.OUTDATED),
    ],
)
async def test_a_proposal_that_was_decided_since_waits_for_nobody(
    desk: Desk, action: str, state: ProposalState
) -> None:
    for number in range(12):
        await joined(desk, f"d{number:02d}")
    query = "all batch=b1"
    order = RevokeOrder(
        selection=by_query(query, now=desk.clock()), query=query, reason=RevocationReason.SUPERSEDED
    )
    with pytest.raises(ProposedError) as caught:
        await revoke_or_propose(desk.context, order, actor=ADA)
    await replay(desk, action, proposal=caught.value.proposal)
    found = await deciding.show_proposal(desk.context, caught.value.proposal)
    assert (found.state, found.decided_by, len(found.names)) == (state, "operator:bob", 12)
    await replay(desk, action, proposal="of-after-the-backup")


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("operator.readmitted", ReadmissionState.DONE),
        ("operator.readmission-denied", ReadmissionState.DENIED),
        ("operator.readmission-expired", ReadmissionState.DENIED),
    ],
)
async def test_a_plea_that_was_decided_since_lets_nobody_in(
    desk: Desk, action: str, state: ReadmissionState
) -> None:
    await add_operator(desk.context, "ada", role=Role.SECURITY, actor="operator:local")
    asked = await ask(desk.context, plea(Unit()))
    await replay(desk, action, readmission=asked.readmission)
    found = await desk.context.store.read(readmissions.load_readmission, asked.readmission)
    assert found is not None
    assert found.state is state
    await replay(desk, action, readmission="of-after-the-backup")


async def test_a_second_factor_that_was_removed_since_is_removed(desk: Desk) -> None:
    await enroll(desk.context, "ada", actor=ADA)
    await replay(desk, "operator.totp-removed", name="ada")
    assert await list_factors(desk.context) == ()


def test_no_act_of_people_is_both() -> None:
    assert not EFFECTS.keys() & TOLD_ONLY
