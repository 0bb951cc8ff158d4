"""What operators do with devices, on a real store, authority and core."""

from datetime import timedelta

import pytest

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Confirmed, Issued, Pending, Problem
from device_agent.wire.requests import Confirm, Proof, ProofKind, Renew
from fleet.errors import NotFoundError, RefusedError
from fleet.model import Alarm, CertificateState, Standing
from fleet.ports import Transaction
from fleet.ra import devices
from fleet.ra.context import Asker, Listener
from fleet.ra.devices import Registration
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.requests import approvals
from fleet.ra.requests.answer import answer
from fleet.ra.requests.approvals import Choice
from fleet.ra.shown import ShownCertificate
from fleet.store.audit import AuditQuery, search
from fleet.store.certificates import load_certificate
from fleet.store.inventory import DeviceQuery
from tests.desk import Desk, Unit

ADA = "operator:ada"
D1 = Identity(domain="prod", device_id="d1")


async def told(desk: Desk, action: str) -> list[tuple[str, dict[str, str]]]:
    """Return actor and details of the audit entries of an action."""
    found = await desk.context.store.read(search, AuditQuery(action=action))
    return [(each.entry.actor, dict(each.entry.details)) for each in found]


async def confirmed(desk: Desk) -> Issued:
    """Enroll d1, confirm it, and let it connect."""
    _, issued = await desk.enrolled("d1")
    reply = await answer(desk.context, desk.speaking(issued), Confirm(id="c"))
    assert isinstance(reply, Confirmed), reply
    desk.broker.connect(issued.serial)
    return issued


async def test_a_device_is_registered_once_and_on_record(desk: Desk) -> None:
    await devices.register(desk.context, Registration(identity=D1, batch="line3", note="shelf 4"), actor=ADA)

    view = await devices.show(desk.context, D1)
    assert (view.summary.standing, view.record.batch, view.record.note) == (
        Standing.REGISTERED,
        "line3",
        "shelf 4",
    )
    assert await told(desk, "device.registered") == [
        (ADA, {"kind": "agent", "batch": "line3", "note": "shelf 4"})
    ]
    with pytest.raises(RefusedError, match="prod:d1 is registered already"):
        await devices.register(desk.context, Registration(identity=D1), actor=ADA)


async def test_a_domain_that_the_fleet_has_not_is_refused(desk: Desk) -> None:
    stranger = Registration(identity=Identity(domain="elsewhere", device_id="d1"))
    with pytest.raises(NotFoundError, match="no domain elsewhere") as caught:
        await devices.register(desk.context, stranger, actor=ADA)
    assert caught.value.hint == "it has: prod, lab"


async def test_nobody_is_registered_for_the_public_batch(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="batch public of prod takes no devices"):
        await devices.register(desk.context, Registration(identity=D1, batch="public"), actor=ADA)


async def test_devices_are_listed_by_what_is_asked(desk: Desk) -> None:
    for name in ("d1", "d2", "e1"):
        identity = Identity(domain="prod", device_id=name)
        await devices.register(desk.context, Registration(identity=identity), actor=ADA)
    listed = await devices.list_devices(desk.context, DeviceQuery(prefix="d"))
    assert [each.identity.device_id for each in listed] == ["d1", "d2"]


async def test_a_suspended_device_is_cut_off_and_comes_back_with_the_same_certificate(desk: Desk) -> None:
    issued = await confirmed(desk)

    out = await devices.suspend(desk.context, D1, actor=ADA, reason="under repair")

    assert [each.serial for each in out.cut_offs] == [issued.serial]
    assert issued.serial not in desk.broker.listed
    assert await told(desk, "device.suspended") == [(ADA, {"reason": "under repair"})]

    await devices.resume(desk.context, D1, actor=ADA)
    assert issued.serial in desk.broker.listed
    assert (await devices.show(desk.context, D1)).summary.standing is Standing.ACTIVE


async def test_a_suspended_device_is_told_to_ask_later(desk: Desk) -> None:
    issued = await confirmed(desk)
    await devices.suspend(desk.context, D1, actor=ADA)
    asked = Renew(id="r", csr=Unit(device_id="d1").csr, attempt=1)
    reply = await answer(desk.context, desk.speaking(issued), asked)
    assert isinstance(reply, Problem)
    assert reply.code is ProblemCode.SUSPENDED


async def test_a_retired_device_is_revoked_for_good(desk: Desk) -> None:
    issued = await confirmed(desk)

    out = await devices.retire(desk.context, D1, actor=ADA, reason="scrapped")

    assert [each.serial for each in out.cut_offs] == [issued.serial]
    record = await desk.context.store.read(load_certificate, issued.serial)
    assert record is not None
    assert record.state is CertificateState.REVOKED
    assert (await devices.show(desk.context, D1)).summary.standing is Standing.RETIRED
    assert desk.context.crls.brokers_miss_something
    with pytest.raises(RefusedError, match="prod:d1 was retired"):
        await devices.resume(desk.context, D1, actor=ADA)


async def test_to_resume_is_to_end_an_alarm(desk: Desk) -> None:
    async def alarm(tx: Transaction, _argument: None) -> None:
        await tx.execute("UPDATE devices SET alarm = 1, code_conflict = 1 WHERE device_id = 'd1'")

    await confirmed(desk)
    await desk.context.store.write(alarm, None)
    await devices.resume(desk.context, D1, actor=ADA, reason="restored from an image")
    view = await devices.show(desk.context, D1)
    assert (view.device.alarm, view.device.code_conflict, view.device.readmit) == (Alarm.NONE, False, True)


@pytest.mark.parametrize("act", [devices.suspend, devices.resume, devices.retire])
async def test_an_act_on_a_device_that_nobody_knows_is_refused(desk: Desk, act: object) -> None:
    assert callable(act)
    with pytest.raises(NotFoundError, match="prod:d1 is not registered") as caught:
        await act(desk.context, D1, actor=ADA)
    assert caught.value.hint == "fleet device register d1 --domain prod"


async def claim_of(desk: Desk, unit: Unit) -> Asker:
    """Return the asker with the claim certificate of a new batch."""
    order = BatchOrder(domain="prod", name="line3", uses=5, lifetime=timedelta(days=30), actor=ADA)
    claim = (await create_batch(desk.context, order)).own.issued
    shown = ShownCertificate(issuer=claim.issuer_id, serial=claim.serial, fingerprint=claim.fingerprint)
    return Asker(listener=Listener.BOOTSTRAP, client_id=unit.key_hash, certificate=shown)


async def test_a_device_that_waits_is_approved_with_its_key_and_gets_its_certificate(desk: Desk) -> None:
    unit = Unit(device_id="d1")
    asker = await claim_of(desk, unit)
    asked = unit.enroll(Proof(kind=ProofKind.CLAIM))
    assert isinstance(await answer(desk.context, asker, asked), Pending)
    (request,) = await approvals.list_waiting(desk.context, 10)
    assert request.key_hash == unit.key_hash

    await approvals.approve(desk.context, Choice(identity=D1), actor=ADA, reason="seen on the bench")

    assert isinstance(await answer(desk.context, asker, asked), Issued)
    assert await approvals.list_waiting(desk.context, 10) == ()
    expected = {"reason": "seen on the bench", "key_hash": unit.key_hash}
    assert await told(desk, "device.approved") == [(ADA, expected)]


async def test_of_two_keys_in_one_name_the_operator_has_to_choose(desk: Desk) -> None:
    unit, thief = Unit(device_id="d1"), Unit(device_id="d1")
    asker = await claim_of(desk, unit)
    other = Asker(listener=Listener.BOOTSTRAP, client_id=thief.key_hash, certificate=asker.certificate)
    proof = Proof(kind=ProofKind.CLAIM)
    assert isinstance(await answer(desk.context, asker, unit.enroll(proof)), Pending)
    assert isinstance(await answer(desk.context, other, thief.enroll(proof)), Pending)

    with pytest.raises(RefusedError, match="2 keys ask in the name of prod:d1"):
        await approvals.approve(desk.context, Choice(identity=D1), actor=ADA)
    await approvals.approve(desk.context, Choice(identity=D1, key_hash=unit.key_hash), actor=ADA)

    assert isinstance(await answer(desk.context, asker, unit.enroll(proof)), Issued)
    assert isinstance(await answer(desk.context, other, thief.enroll(proof)), Problem)


async def test_nobody_is_approved_who_did_not_ask(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="no request of prod:d1 waits for approval"):
        await approvals.approve(desk.context, Choice(identity=D1), actor=ADA)
