"""Acts on many devices: proposed by one operator, done when another one agrees, to what was shown, once."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from fleet.core.proposal import ActKind, ProposalState
from fleet.errors import NotFoundError, RefusedError, StoreError, UnreachableError
from fleet.model import Purpose, RevocationReason, Role
from fleet.ports import Transaction
from fleet.ra.acts import deciding
from fleet.ra.acts.adding import add_or_propose
from fleet.ra.acts.deciding import Performer
from fleet.ra.acts.guard import MOST_OPEN, MassAct, ProposedError, require_second
from fleet.ra.acts.revoking import RevokeOrder, revoke_or_propose
from fleet.ra.context import Context
from fleet.ra.devices import Registration, register
from fleet.ra.keeping.housekeeping import begin, tick
from fleet.ra.people.operators import add_operator, list_operators, remove_operator
from fleet.ra.performers import PERFORMERS
from fleet.ra.selection import ByDevice, by_query
from fleet.store.audit import AuditQuery, search
from fleet.store.certificates import CertificateQuery, list_certificates
from fleet.store.devices import load_device
from fleet.store.proposals import ProposalQuery, ProposalRecord
from tests.desk import Desk, at_desk
from tests.homes import FleetHome

ADA, BOB, LOCAL = "operator:ada", "operator:bob", "operator:local"
MANY = 12


@pytest.fixture
async def batch(desk: Desk) -> tuple[Identity, ...]:
    """Twelve devices of a batch, all that there are, and three operators beside the owner of the home."""
    for name in ("ada", "bob"):
        await add_operator(desk.context, name, role=Role.SECURITY, actor=LOCAL)
    return tuple([await joined(desk, f"d{number:02d}") for number in range(MANY)])


async def joined(desk: Desk, device_id: str) -> Identity:
    """Register a device of the batch."""
    identity = Identity(domain="prod", device_id=device_id)
    await register(desk.context, Registration(identity=identity, batch="b1"), actor=LOCAL)
    return identity


async def proposed(desk: Desk, *, actor: str = ADA) -> str:
    """Have the batch revoked, and return the proposal that comes of it."""
    query = "all batch=b1"
    order = RevokeOrder(
        selection=by_query(query, now=desk.context.clock()),
        query=query,
        reason=RevocationReason.CESSATION_OF_OPERATION,
    )
    with pytest.raises(ProposedError) as caught:
        await revoke_or_propose(desk.context, order, actor=actor)
    return caught.value.proposal


async def approve(desk: Desk, proposal: str, *, actor: str = BOB) -> ProposalRecord:
    return await deciding.approve(desk.context, proposal, actor=actor, performers=PERFORMERS)


async def is_revoked(desk: Desk, identity: Identity) -> bool:
    device = await desk.context.store.read(load_device, identity)
    assert device is not None
    return device.revoked


async def actions(desk: Desk, prefix: str = "proposal.") -> list[tuple[str, str]]:
    found = await desk.context.store.read(search, AuditQuery(limit=1000))
    return [(each.entry.action, each.entry.actor) for each in found if each.entry.action.startswith(prefix)]


async def test_what_is_much_is_not_done_before_somebody_else_agrees_and_then_done(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    proposal = await proposed(desk)
    assert not any([await is_revoked(desk, each) for each in batch])

    done = await approve(desk, proposal)

    assert (done.state, done.decided_by) == (ProposalState.DONE, BOB)
    assert all([await is_revoked(desk, each) for each in batch])
    assert await actions(desk) == [
        ("proposal.made", ADA),
        ("proposal.approved", BOB),
        ("proposal.done", "server"),
    ]
    assert set(await actions(desk, "device.revoked")) == {("device.revoked", ADA)}


async def test_one_stolen_device_is_revoked_at_once_however_it_is_named(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    one = ByDevice(identities=batch[:1])
    reason = RevocationReason.KEY_COMPROMISE
    await revoke_or_propose(desk.context, RevokeOrder(selection=one, reason=reason), actor=ADA)
    query = "prefix=d01"
    await revoke_or_propose(
        desk.context,
        RevokeOrder(selection=by_query(query, now=desk.context.clock()), query=query, reason=reason),
        actor=ADA,
    )
    assert [await is_revoked(desk, each) for each in batch[:3]] == [True, True, False]
    assert await actions(desk) == []


async def test_who_proposed_it_cannot_approve_or_reject_it_and_nobody_else_withdraws_it(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    proposal = await proposed(desk)
    with pytest.raises(RefusedError, match="nobody agrees to a proposal of one's own"):
        await approve(desk, proposal, actor=ADA)
    with pytest.raises(RefusedError, match="nobody agrees"):
        await deciding.reject(desk.context, proposal, actor=ADA)
    with pytest.raises(RefusedError, match="ada proposed it, and nobody else withdraws it"):
        await deciding.withdraw(desk.context, proposal, actor=BOB)
    assert [action for action, _ in await actions(desk)] == ["proposal.made", *["proposal.refused"] * 3]
    assert not await is_revoked(desk, batch[0])


async def test_the_owner_of_the_home_is_one_person_and_an_operator_another(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    proposal = await proposed(desk, actor=LOCAL)
    with pytest.raises(RefusedError):
        await approve(desk, proposal, actor=LOCAL)
    assert (await approve(desk, proposal, actor="operator:admin")).state is ProposalState.DONE
    assert await is_revoked(desk, batch[0])


async def test_the_same_act_proposed_again_is_the_same_proposal(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    assert await proposed(desk) == await proposed(desk)
    assert await proposed(desk, actor=BOB) != await proposed(desk)


async def test_one_operator_has_only_so_many_proposals_that_wait(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    def act(number: int) -> MassAct:
        return MassAct(
            kind=ActKind.REVOKE,
            identities=batch,
            selection="all batch=b1",
            role=Role.SECURITY,
            parameters=(("number", str(number)),),
        )

    for number in range(MOST_OPEN):
        with pytest.raises(ProposedError):
            await require_second(desk.context, act(number), actor=ADA)
    with pytest.raises(RefusedError, match="ada has 20 proposals that wait"):
        await require_second(desk.context, act(MOST_OPEN), actor=ADA)
    with pytest.raises(ProposedError):
        await require_second(desk.context, act(MOST_OPEN), actor=BOB)


@pytest.mark.parametrize("end", [deciding.reject, deciding.withdraw])
async def test_what_was_rejected_or_withdrawn_is_never_done(
    desk: Desk, batch: tuple[Identity, ...], end: object
) -> None:
    proposal = await proposed(desk)
    if end is deciding.reject:
        ended = await deciding.reject(desk.context, proposal, actor=BOB, reason="wrong batch")
    else:
        ended = await deciding.withdraw(desk.context, proposal, actor=ADA)
    assert ended.state in {ProposalState.REJECTED, ProposalState.WITHDRAWN}
    with pytest.raises(RefusedError, match=f"is {ended.state} already"):
        await approve(desk, proposal)
    assert not await is_revoked(desk, batch[0])


async def test_a_proposal_that_waited_too_long_has_ended(desk: Desk, batch: tuple[Identity, ...]) -> None:
    proposal, other = await proposed(desk), await proposed(desk, actor=BOB)
    desk.clock.forward(timedelta(hours=72))
    with pytest.raises(RefusedError, match="its time is over"):
        await approve(desk, proposal)
    await deciding.expire_proposals(desk.context)
    assert (await deciding.show_proposal(desk.context, other)).state is ProposalState.EXPIRED
    assert [action for action, _ in await actions(desk)].count("proposal.expired") == 2
    assert not await is_revoked(desk, batch[0])


async def test_a_selection_that_changed_too_much_is_not_acted_on(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    proposal = await proposed(desk)
    await joined(desk, "newcomer")
    with pytest.raises(RefusedError, match="it selects 13 devices now: 0 are gone, 1 are new"):
        await approve(desk, proposal)
    assert (await deciding.show_proposal(desk.context, proposal)).state is ProposalState.OUTDATED
    assert not await is_revoked(desk, batch[0])


async def test_within_what_is_allowed_only_what_was_shown_is_touched(desk: Desk) -> None:
    for name in ("ada", "bob"):
        await add_operator(desk.context, name, role=Role.SECURITY, actor=LOCAL)
    shown = [await joined(desk, f"d{number:02d}") for number in range(40)]
    proposal = await proposed(desk)
    newcomer = await joined(desk, "newcomer")

    await approve(desk, proposal)

    assert all([await is_revoked(desk, each) for each in shown])
    assert not await is_revoked(desk, newcomer)


async def test_of_two_who_decide_at_once_one_does_and_it_is_done_once(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    proposal = await proposed(desk)
    found = await asyncio.gather(
        approve(desk, proposal),
        approve(desk, proposal, actor=LOCAL),
        deciding.withdraw(desk.context, proposal, actor=ADA),
        return_exceptions=True,
    )
    told = [action for action, _ in await actions(desk)]
    assert told.count("proposal.approved") + told.count("proposal.withdrawn") == 1
    assert told.count("proposal.done") == told.count("proposal.approved")
    assert await is_revoked(desk, batch[0]) is ("proposal.done" in told)
    assert all(isinstance(each, ProposalRecord | RefusedError) for each in found)


async def test_an_operator_who_was_removed_has_proposed_nothing(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    proposal = await proposed(desk)
    await remove_operator(desk.context, "ada", actor=BOB)
    with pytest.raises(RefusedError, match="ada, who proposed it, is no operator any more"):
        await approve(desk, proposal)


async def test_an_operator_whom_the_proposer_made_is_the_same_hand(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    await add_operator(desk.context, "puppet", role=Role.SECURITY, actor=ADA)
    await add_operator(desk.context, "of-puppet", role=Role.SECURITY, actor="operator:puppet")
    proposal = await proposed(desk)
    for name in ("puppet", "of-puppet"):
        with pytest.raises(RefusedError, match="it is no other hand"):
            await approve(desk, proposal, actor=f"operator:{name}")
    desk.clock.forward(timedelta(seconds=1))
    await add_operator(desk.context, "late", role=Role.SECURITY, actor=LOCAL)
    with pytest.raises(RefusedError, match="late was added after that"):
        await approve(desk, proposal, actor="operator:late")
    assert not await is_revoked(desk, batch[0])
    assert (await approve(desk, proposal)).state is ProposalState.DONE


async def test_what_fails_stays_approved_and_is_done_when_it_is_approved_again(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    proposal = await proposed(desk)

    async def unreachable(_: Context, __: ProposalRecord, ___: tuple[Identity, ...]) -> str:
        raise UnreachableError("the broker does not answer")

    failing = {ActKind.REVOKE: Performer(find=PERFORMERS[ActKind.REVOKE].find, perform=unreachable)}
    with pytest.raises(UnreachableError):
        await deciding.approve(desk.context, proposal, actor=BOB, performers=failing)
    assert (await deciding.show_proposal(desk.context, proposal)).state is ProposalState.APPROVED
    assert (await approve(desk, proposal)).state is ProposalState.DONE
    assert await is_revoked(desk, batch[0])


async def test_what_a_stop_came_in_between_is_done_at_the_next_start_and_told_again_after_it(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    proposal = await proposed(desk)

    async def killed(_: Context, __: ProposalRecord, ___: tuple[Identity, ...]) -> str:
        raise asyncio.CancelledError

    dying = {ActKind.REVOKE: Performer(find=PERFORMERS[ActKind.REVOKE].find, perform=killed)}
    with pytest.raises(asyncio.CancelledError):
        await deciding.approve(desk.context, proposal, actor=BOB, performers=dying)

    await begin(desk.context)

    assert all([await is_revoked(desk, each) for each in batch])
    assert (await approve(desk, proposal)).state is ProposalState.DONE
    assert [action for action, _ in await actions(desk)].count("proposal.done") == 1


def test_every_kind_of_act_that_is_proposed_can_be_done() -> None:
    assert set(PERFORMERS) == set(ActKind)


async def test_a_proposal_that_nobody_made_is_not_found(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="there is no proposal nothing"):
        await deciding.show_proposal(desk.context, "nothing")


async def test_where_the_configuration_wants_it_two_add_an_operator_and_neither_has_his_key(
    fleet_home: FleetHome, tmp_path: Path
) -> None:
    toml = fleet_home.home.config.read_text() + '\n[acts]\nalways = ["operator"]\n'
    async with at_desk(fleet_home, tmp_path, toml=toml) as desk:
        await add_operator(desk.context, "bob", role=Role.SECURITY, actor=LOCAL)
        await add_or_propose(desk.context, "vic", role=Role.VIEWER, actor="operator:admin")
        with pytest.raises(ProposedError, match="operator always needs a second operator") as caught:
            await add_or_propose(desk.context, "new", role=Role.SECURITY, actor="operator:admin")
        with pytest.raises(RefusedError, match="there is, or was, an operator bob"):
            await add_or_propose(desk.context, "bob", role=Role.SECURITY, actor="operator:admin")
        assert "new" not in {each.name for each in await list_operators(desk.context)}

        done = await approve(desk, caught.value.proposal)

        assert done.outcome == "new added, without a certificate: fleet operator recover new"
        added = {each.name: each.added_by for each in await list_operators(desk.context)}
        assert added["new"] == "admin"
        query = CertificateQuery(purpose=Purpose.OPERATOR, name_prefix="new", limit=10)
        assert await desk.context.store.read(list_certificates, query) == ()


@pytest.mark.parametrize("text", ["", "two\nlines", "\N{PACKAGE}", "x" * 100_000, '"}'])
async def test_whatever_text_an_act_brings_its_proposal_is_shown_listed_and_ended(
    desk: Desk, batch: tuple[Identity, ...], text: str
) -> None:
    act = MassAct(
        kind=ActKind.SUSPEND,
        identities=batch,
        selection="all batch=b1",
        role=Role.OPERATOR,
        parameters=(("reason", text), ("query", "all batch=b1")),
        reason=text[:100],
    )
    with pytest.raises(ProposedError) as caught:
        await require_second(desk.context, act, actor=ADA)
    shown = await deciding.show_proposal(desk.context, caught.value.proposal)
    assert shown.parameter("reason") == text
    assert len(await deciding.list_proposals(desk.context, ProposalQuery())) == 1
    desk.clock.forward(timedelta(hours=72))
    await tick(desk.context)
    ended = await deciding.show_proposal(desk.context, caught.value.proposal)
    assert ended.state is ProposalState.EXPIRED


async def test_a_row_that_cannot_be_read_keeps_the_house_going(
    desk: Desk, batch: tuple[Identity, ...]
) -> None:
    proposal = await proposed(desk)

    async def damage(tx: Transaction, name: str) -> None:
        await tx.execute("UPDATE proposals SET parameters = ? WHERE proposal = ?", ("{", name))

    await desk.context.store.write(damage, proposal)
    desk.clock.forward(timedelta(hours=72))
    await tick(desk.context)
    with pytest.raises(StoreError, match="the parameters of a proposal are damaged"):
        await deciding.show_proposal(desk.context, proposal)
