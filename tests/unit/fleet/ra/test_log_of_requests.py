"""One request is known by one id: in what the device hears, in the server's log, and on the audit trail."""

import logging

import pytest

from device_agent.errors import RefusedError
from device_agent.hearing import heard
from device_agent.trouble import failing_step, word_of
from device_agent.wire.replies import Issued, Problem
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret
from fleet.core.story import decision
from fleet.log import Event, TextForm, members_of
from fleet.ra.requests.answer import answer
from fleet.store import audit
from fleet.store.audit import AuditQuery
from tests.desk import Desk, Unit


def answered(caplog: pytest.LogCaptureFixture) -> list[dict[str, str | int | float]]:
    found = (members_of(record) for record in caplog.records)
    return [one for one in found if one["event"] == Event.REQUEST_ANSWERED]


async def test_a_refusal_has_one_id_and_one_step_everywhere(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fleet")
    await desk.register("d1")
    unit = Unit(device_id="d1")
    request = unit.enroll(Proof(kind=ProofKind.CODE, code=Secret("0000-0000-0000-0000")))
    reply = await answer(desk.context, unit.at_bootstrap(), request)

    assert isinstance(reply, Problem)
    with pytest.raises(RefusedError) as refusal:
        heard(reply)
    (line,) = answered(caplog)
    (entry,) = await desk.context.store.read(audit.search, AuditQuery(action="request.refused"))
    details = dict(entry.entry.details)
    assert {refusal.value.request, line["request"], details["request_id"]} == {request.id}
    assert {failing_step(word_of(refusal.value)), line["step"], details["step"]} == {"prove"}
    assert decision(entry.entry).step == "enroll/prove"  # as `fleet device explain` shows it
    assert (line["device"], line["channel"], line["kind"]) == ("d1", "bootstrap", "enroll")
    assert line["outcome"] == details["code"] == reply.code
    assert "0000-0000" not in TextForm().format(caplog.records[-1])


async def test_what_went_well_is_told_with_its_certificate(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fleet")
    _, issued = await desk.enrolled("d1")
    assert isinstance(issued, Issued)
    line = answered(caplog)[-1]
    assert (line["outcome"], line["serial"]) == ("ok", issued.serial)
    assert "step" not in line
