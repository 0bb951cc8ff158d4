"""Devices on their way, on a real store, authority and core: who is let in at each step, and what stays."""

from contextlib import suppress
from datetime import timedelta

import pytest

from device_agent.wire.identity import Identity
from device_agent.wire.replies import Confirmed, Issued, Problem
from device_agent.wire.requests import Confirm, Proof, ProofKind, Renew
from fleet.core.marking import Changes, Marking
from fleet.core.moving import MoveEvent, MoveKind, MoveState
from fleet.errors import FleetError, NotFoundError, RefusedError
from fleet.model import AuditEntry, CertificateState, Role, Standing
from fleet.ports import Transaction
from fleet.ra import devices
from fleet.ra.inventory import moving
from fleet.ra.inventory.decommission import decommission
from fleet.ra.inventory.marking import Speaker, mark_each
from fleet.ra.inventory.moving import Moved, MoveOrder
from fleet.ra.keeping.replay_acts import EFFECTS
from fleet.ra.requests.answer import answer
from fleet.store import moves
from fleet.store.attributes import put_attributes
from fleet.store.audit import AuditQuery, search
from fleet.store.certificates import load_certificate
from fleet.store.moves import MoveQuery
from tests.desk import Desk, Unit

ADA = "operator:ada"
D1 = Identity(domain="prod", device_id="d1")
LAB = Identity(domain="lab", device_id="d1")
ORDER = MoveOrder(actor=ADA, reason="sold")


async def joined(desk: Desk) -> tuple[Unit, Issued]:
    """Enroll d1, confirm it, and let it connect."""
    unit, issued = await desk.enrolled("d1")
    await confirm(desk, issued)
    return unit, issued


async def confirm(desk: Desk, issued: Issued, *, domain: str = "prod") -> None:
    reply = await answer(desk.context, desk.speaking(issued, domain=domain), Confirm(id="c"))
    assert isinstance(reply, Confirmed), reply
    desk.broker.connect(issued.serial)


async def with_code(desk: Desk, moved: Moved, unit: Unit | None = None) -> Issued:
    """Enroll hardware with the code of a move."""
    assert moved.code is not None
    hardware = unit or Unit(device_id="d1")
    proof = Proof(kind=ProofKind.CODE, code=moved.code.code)
    reply = await answer(desk.context, hardware.at_bootstrap(), hardware.enroll(proof))
    assert isinstance(reply, Issued), reply
    return reply


async def standing(desk: Desk, identity: Identity) -> Standing:
    return (await devices.show(desk.context, identity)).summary.standing


async def state(desk: Desk, identity: Identity = D1) -> MoveState:
    return (await moving.show(desk.context, identity)).state


async def told(desk: Desk, identity: Identity) -> list[str]:
    query = AuditQuery(domain=identity.domain, device_id=identity.device_id, action="device.moved")
    return [dict(each.entry.details)["state"] for each in await desk.context.store.read(search, query)]


async def test_a_transfer_ends_the_old_certificate_once_the_new_one_is_confirmed(desk: Desk) -> None:
    _, old = await joined(desk)
    known = Marking(owner=None, model="TX", tags=Changes(put=("outdoor",)), attributes=(("site", "Graz"),))
    await mark_each(desk.context, ((D1, known),), speaker=Speaker(actor=ADA, role=Role.SECURITY))

    begun = await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    assert await standing(desk, LAB) is Standing.REGISTERED
    fresh = await with_code(desk, begun)
    await moving.finish_arrived(desk.context)
    assert (await state(desk), await standing(desk, D1)) == (MoveState.WAITING, Standing.ACTIVE)
    await confirm(desk, fresh, domain="lab")
    await moving.finish_arrived(desk.context)

    assert (await state(desk), await standing(desk, D1)) == (MoveState.DONE, Standing.REVOKED)
    assert await standing(desk, LAB) is Standing.ACTIVE
    assert {session.name for session in desk.broker.live} == {"lab:d1"}
    record = await desk.context.store.read(load_certificate, old.serial)
    assert record is not None
    assert record.reason is not None
    assert record.reason.value == "affiliationChanged"
    marks = (await devices.show(desk.context, LAB)).marks
    assert (marks.model, marks.tags, marks.attributes) == ("TX", ("outdoor",), (("site", "Graz"),))
    assert await told(desk, D1) == await told(desk, LAB) == ["waiting", "done"]
    (linked,) = await desk.context.store.read(moves.list_moves, MoveQuery(identity=LAB))
    assert (linked.identity, linked.target) == (D1, LAB)


async def test_a_transfer_that_is_cancelled_leaves_the_device_where_it_was(desk: Desk) -> None:
    _, old = await joined(desk)
    begun = await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    await moving.advance(desk.context, D1, MoveEvent.CANCEL, order=ORDER)
    await moving.advance(desk.context, D1, MoveEvent.CANCEL, order=ORDER)

    assert begun.code is not None
    late = Unit(device_id="d1")
    proof = Proof(kind=ProofKind.CODE, code=begun.code.code)
    reply = await answer(desk.context, late.at_bootstrap(), late.enroll(proof))
    assert isinstance(reply, Problem)
    assert await standing(desk, D1) is Standing.ACTIVE
    assert old.serial in desk.broker.listed
    assert await told(desk, D1) == ["waiting", "cancelled"]


async def test_a_device_can_be_transferred_and_come_back(desk: Desk) -> None:
    await joined(desk)
    there = await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    await confirm(desk, await with_code(desk, there), domain="lab")
    await moving.finish_arrived(desk.context)
    desk.clock.forward(timedelta(seconds=1))

    back = await moving.begin(desk.context, MoveKind.TRANSFER, LAB, to="prod", order=ORDER)
    await moving.finish_arrived(desk.context)
    assert await state(desk, LAB) is MoveState.WAITING
    await confirm(desk, await with_code(desk, back))
    await moving.finish_arrived(desk.context)

    assert (await standing(desk, D1), await standing(desk, LAB)) == (Standing.ACTIVE, Standing.REVOKED)


async def test_nobody_is_transferred_onto_a_device_that_is_in_use(desk: Desk) -> None:
    await joined(desk)
    _, there = await desk.enrolled("d1", domain="lab")
    await confirm(desk, there, domain="lab")
    with pytest.raises(RefusedError, match="lab:d1 is there already"):
        await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    with pytest.raises(RefusedError, match="is in prod already"):
        await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="prod", order=ORDER)
    with pytest.raises(NotFoundError, match="no domain elsewhere"):
        await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="elsewhere", order=ORDER)
    assert await standing(desk, LAB) is Standing.ACTIVE


async def test_replaced_hardware_is_out_at_once_and_never_comes_back(desk: Desk) -> None:
    unit, old = await joined(desk)

    begun = await moving.begin(desk.context, MoveKind.REPLACEMENT, D1, to="prod", order=ORDER)

    assert [each.serial for each in begun.cut_offs] == [old.serial]
    assert old.serial not in desk.broker.listed
    renewal = Renew(id="r", csr=Unit(device_id="d1").csr, attempt=1)
    assert isinstance(await answer(desk.context, desk.speaking(old), renewal), Problem)
    assert begun.code is not None
    proof = Proof(kind=ProofKind.CODE, code=begun.code.code)
    assert isinstance(await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof)), Problem)

    again = await moving.advance(desk.context, D1, MoveEvent.CODE, order=ORDER)
    fresh = await with_code(desk, again)
    await confirm(desk, fresh)
    await moving.finish_arrived(desk.context)
    assert (await state(desk), await standing(desk, D1)) == (MoveState.DONE, Standing.ACTIVE)
    assert (fresh.serial in desk.broker.listed, old.serial in desk.broker.listed) == (True, False)
    with pytest.raises(RefusedError):
        await moving.advance(desk.context, D1, MoveEvent.CANCEL, order=ORDER)


async def test_a_returned_device_is_kept_out_until_it_is_readmitted_with_the_key_it_has(desk: Desk) -> None:
    _, issued = await joined(desk)
    await moving.begin(desk.context, MoveKind.RETURN, D1, to="prod", order=ORDER)
    assert (await standing(desk, D1), desk.broker.live) == (Standing.SUSPENDED, [])
    for _ in range(2):
        await moving.advance(desk.context, D1, MoveEvent.SEND, order=ORDER)
    await moving.finish_arrived(desk.context)
    assert await state(desk) is MoveState.AWAY

    with pytest.raises(RefusedError, match="prod:d1 came back, and is away") as caught:
        await devices.resume(desk.context, D1, actor=ADA)
    assert caught.value.hint == "fleet move readmit prod:d1"
    assert issued.serial not in desk.broker.listed
    await moving.advance(desk.context, D1, MoveEvent.READMIT, order=ORDER)
    assert issued.serial in desk.broker.listed
    assert await told(desk, D1) == ["held", "away", "done"]


async def test_a_returned_device_is_replaced_by_other_hardware_which_is_not_suspended(desk: Desk) -> None:
    _, issued = await joined(desk)
    await moving.begin(desk.context, MoveKind.RETURN, D1, to="prod", order=ORDER)
    replaced = await moving.advance(desk.context, D1, MoveEvent.REPLACE, order=ORDER)
    fresh = await with_code(desk, replaced)
    await confirm(desk, fresh)
    await moving.finish_arrived(desk.context)

    assert await standing(desk, D1) is Standing.ACTIVE
    record = await desk.context.store.read(load_certificate, issued.serial)
    assert record is not None
    assert record.state is CertificateState.REVOKED


async def test_of_one_device_one_move_at_a_time_is_open(desk: Desk) -> None:
    await joined(desk)
    await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    for identity, to in ((D1, "prod"), (LAB, "lab")):
        with pytest.raises(RefusedError, match="is on its way already: a transfer that is waiting"):
            await moving.begin(desk.context, MoveKind.RETURN, identity, to=to, order=ORDER)
    with pytest.raises(RefusedError, match="is on its way to lab"):
        await decommission(desk.context, D1, actor=ADA)
    assert await standing(desk, D1) is Standing.ACTIVE


async def test_a_device_that_never_moved_takes_no_step(desk: Desk) -> None:
    await joined(desk)
    with pytest.raises(NotFoundError, match="was never on its way"):
        await moving.advance(desk.context, D1, MoveEvent.SEND, order=ORDER)


async def test_a_decommissioned_device_leaves_a_receipt_which_can_be_had_again(desk: Desk) -> None:
    _, issued = await joined(desk)

    receipt = await decommission(desk.context, D1, actor=ADA, reason="scrapped")

    assert (receipt.revoked, receipt.verified, receipt.problem) == ((issued.serial,), True, "")
    assert [each.serial for each in receipt.sessions] == [issued.serial]
    assert receipt.entries
    assert await standing(desk, D1) is Standing.RETIRED
    again = await decommission(desk.context, D1, actor=ADA)
    assert (again.retired_at, again.revoked, again.entries) == (
        receipt.retired_at,
        receipt.revoked,
        receipt.entries,
    )


async def test_a_returned_device_that_is_scrapped_is_retired(desk: Desk) -> None:
    await joined(desk)
    await moving.begin(desk.context, MoveKind.RETURN, D1, to="prod", order=ORDER)
    receipt = await decommission(desk.context, D1, actor=ADA)
    assert (await state(desk), await standing(desk, D1)) == (MoveState.SCRAPPED, Standing.RETIRED)
    assert receipt.verified


async def test_a_device_that_was_retired_on_its_way_is_on_its_way_no_more(desk: Desk) -> None:
    await joined(desk)
    await moving.begin(desk.context, MoveKind.REPLACEMENT, D1, to="prod", order=ORDER)
    await devices.retire(desk.context, D1, actor=ADA)
    await decommission(desk.context, D1, actor=ADA)
    assert await state(desk) is MoveState.SCRAPPED


async def test_a_receipt_says_what_keeps_it_from_being_verified(desk: Desk) -> None:
    await joined(desk)
    receipt = await decommission(desk.context, D1, actor=ADA)
    assert receipt.verified
    desk.broker.fails = True
    assert not (await decommission(desk.context, D1, actor=ADA)).verified


async def test_who_is_cut_off_over_a_replacement_finds_it_done_and_asks_for_another_code(desk: Desk) -> None:
    _, old = await joined(desk)
    desk.broker.fails = True
    with suppress(FleetError):
        await moving.begin(desk.context, MoveKind.REPLACEMENT, D1, to="prod", order=ORDER)

    assert (await state(desk), await standing(desk, D1)) == (MoveState.WAITING, Standing.REGISTERED)
    desk.broker.fails = False
    await desk.context.broker.synchronise()
    assert old.serial not in desk.broker.listed
    with pytest.raises(RefusedError, match="on its way already"):
        await moving.begin(desk.context, MoveKind.REPLACEMENT, D1, to="prod", order=ORDER)
    again = await moving.advance(desk.context, D1, MoveEvent.CODE, order=ORDER)
    await confirm(desk, await with_code(desk, again))
    for _ in range(2):
        await moving.finish_arrived(desk.context)
    assert await told(desk, D1) == ["waiting", "waiting", "done"]


async def test_a_code_whose_time_is_over_lets_nobody_take_over(desk: Desk) -> None:
    await joined(desk)
    begun = await moving.begin(desk.context, MoveKind.REPLACEMENT, D1, to="prod", order=ORDER)
    desk.clock.forward(ORDER.lifetime + timedelta(seconds=1))
    assert begun.code is not None
    late = Unit(device_id="d1")
    proof = Proof(kind=ProofKind.CODE, code=begun.code.code)
    assert isinstance(await answer(desk.context, late.at_bootstrap(), late.enroll(proof)), Problem)
    assert await standing(desk, D1) is Standing.REGISTERED


async def test_what_a_device_has_said_of_itself_goes_with_no_transfer(desk: Desk) -> None:
    await joined(desk)
    await desk.context.store.write(say_of_itself, D1)
    await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    assert (await devices.show(desk.context, LAB)).marks.attributes == ()


async def say_of_itself(tx: Transaction, identity: Identity) -> None:
    await put_attributes(tx, identity, {"site": "Graz"}, source="template")


@pytest.mark.parametrize("how", ["suspended", "revoked", "retired"])
async def test_a_device_that_is_kept_out_gets_no_way_in_elsewhere(desk: Desk, how: str) -> None:
    async def keep_out() -> None:
        if how == "revoked":
            await desk.revoke("d1")
        else:
            await (devices.suspend if how == "suspended" else devices.retire)(desk.context, D1, actor=ADA)

    await joined(desk)
    await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    await keep_out()
    with pytest.raises(RefusedError):
        await moving.advance(desk.context, D1, MoveEvent.CODE, order=ORDER)
    await moving.advance(desk.context, D1, MoveEvent.CANCEL, order=ORDER)
    with pytest.raises(RefusedError):
        await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    assert await standing(desk, LAB) is Standing.REVOKED


async def test_a_retired_device_is_replaced_by_nobody(desk: Desk) -> None:
    await joined(desk)
    await moving.begin(desk.context, MoveKind.REPLACEMENT, D1, to="prod", order=ORDER)
    await devices.retire(desk.context, D1, actor=ADA)
    with pytest.raises(RefusedError, match="prod:d1 was retired"):
        await moving.advance(desk.context, D1, MoveEvent.CODE, order=ORDER)
    assert await standing(desk, D1) is Standing.RETIRED


async def test_a_transfer_lifts_no_suspension_where_it_goes(desk: Desk) -> None:
    await joined(desk)
    await desk.register("d1", domain="lab")
    await devices.suspend(desk.context, LAB, actor=ADA)
    begun = await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    assert begun.code is not None
    assert await standing(desk, LAB) is Standing.SUSPENDED


async def test_the_code_of_a_transfer_is_closed_when_its_device_is_kept_out(desk: Desk) -> None:
    await joined(desk)
    begun = await moving.begin(desk.context, MoveKind.TRANSFER, D1, to="lab", order=ORDER)
    await desk.revoke("d1")
    await moving.finish_arrived(desk.context)

    assert await state(desk) is MoveState.CANCELLED
    assert begun.code is not None
    thief = Unit(device_id="d1")
    proof = Proof(kind=ProofKind.CODE, code=begun.code.code)
    assert isinstance(await answer(desk.context, thief.at_bootstrap(), thief.enroll(proof)), Problem)


async def test_a_restore_brings_moves_to_where_the_trail_left_them(desk: Desk) -> None:
    await joined(desk)
    await moving.begin(desk.context, MoveKind.RETURN, D1, to="prod", order=ORDER)
    desk.clock.forward(timedelta(hours=1))
    await moving.advance(desk.context, D1, MoveEvent.SEND, order=ORDER)
    before = await moving.show(desk.context, D1)
    found = await desk.context.store.read(search, AuditQuery(action="device.moved"))

    await desk.context.store.write(lose_moves, tuple(each.entry for each in found))
    assert await moving.show(desk.context, D1) == before


async def lose_moves(tx: Transaction, entries: tuple[AuditEntry, ...]) -> None:
    await tx.execute("DELETE FROM device_moves")
    for entry in entries:
        await EFFECTS[entry.action](tx, entry)
