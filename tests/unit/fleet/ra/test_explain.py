"""The story of a device, and what helps it."""

import pytest

from device_agent.wire.identity import Identity
from device_agent.wire.requests import Confirm
from fleet.errors import NotFoundError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra import devices
from fleet.ra.people.explain import explain
from fleet.ra.requests.answer import answer
from fleet.store import audit
from fleet.store.waiting import Waiting, keep_waiting
from tests.desk import NOON, Desk

ADA = "operator:ada"
D1 = Identity(domain="prod", device_id="d1")
WAITING = Waiting(
    identity=D1, key_hash="a" * 64, short_code="ABCD-EFGH", claim_serial="", address="", asked_at=NOON
)


async def test_the_story_tells_each_decision_in_order(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    await answer(desk.context, desk.speaking(issued), Confirm(id="c"))
    await devices.suspend(desk.context, D1, actor=ADA, reason="under repair")

    story = await explain(desk.context, D1)

    actions = [each.entry.action for each in story.entries]
    assert actions[-1] == "device.suspended"
    assert actions.index("certificate.intended") < actions.index("certificate.issued")
    assert "certificate.confirmed" in actions
    assert story.verdict == "suspended: it is kept out, and nothing is revoked"
    assert story.advice == "fleet device resume d1 --domain prod"


@pytest.mark.parametrize(
    ("assignment", "verdict", "advice"),
    [
        ("retired_at = '2030-01-01T00:00:00Z'", "retired", ""),
        ("revoked = 1", "revoked", "fleet claim create"),
        ("alarm = 2", "two lines", "--replace"),
        ("alarm = 1", "an older state", "fleet device resume d1 --domain prod"),
        ("code_conflict = 1", "a second key", "--replace"),
        ("suspended = 1", "suspended", "fleet device resume d1"),
        ("note = ''", "registered, without a certificate", "fleet claim create --domain prod --device d1"),
    ],
)
async def test_each_trouble_has_a_verdict_and_a_way_out(
    desk: Desk, assignment: str, verdict: str, advice: str
) -> None:
    async def arrange(tx: Transaction, _argument: None) -> None:
        await tx.execute(f"UPDATE devices SET {assignment} WHERE device_id = 'd1'")

    await desk.register("d1")
    await desk.context.store.write(arrange, None)
    story = await explain(desk.context, D1)
    assert story.verdict.startswith(verdict)
    assert advice in story.advice


async def test_what_was_issued_and_not_confirmed_is_told(desk: Desk) -> None:
    await desk.enrolled("d1")
    assert (await explain(desk.context, D1)).verdict == "a certificate was issued, and not confirmed yet"


async def test_what_works_needs_no_advice(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    await answer(desk.context, desk.speaking(issued), Confirm(id="c"))
    story = await explain(desk.context, D1)
    assert (story.verdict, story.advice) == ("active: its certificate is admitted", "")


async def test_a_device_that_waits_and_is_not_registered_has_a_story(desk: Desk) -> None:
    await desk.context.store.write(keep_waiting, WAITING)
    story = await explain(desk.context, D1)
    assert story.view is None
    assert story.waiting == (WAITING,)
    assert story.advice == "fleet device approve d1 --domain prod"


async def test_a_registered_device_that_waits_is_to_be_approved(desk: Desk) -> None:
    await desk.register("d1")
    await desk.context.store.write(keep_waiting, WAITING)
    assert "fleet device approve d1 --domain prod" in (await explain(desk.context, D1)).advice


async def test_a_device_that_was_refused_and_is_not_registered_has_a_story(desk: Desk) -> None:
    refused = AuditEntry(at=NOON, action="request.refused", actor="device", domain="prod", device_id="d1")
    await desk.context.store.write(audit.append, refused)
    story = await explain(desk.context, D1)
    assert (story.verdict, story.advice) == (
        "it asked, and is not registered",
        "fleet device register d1 --domain prod",
    )


async def test_of_whom_nobody_has_heard_there_is_no_story(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="prod:d1 is not registered"):
        await explain(desk.context, D1)
