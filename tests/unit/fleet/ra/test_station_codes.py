"""An operator's code that a station carries: a unit comes back to a bench, whoever made it."""

import pytest

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Confirmed, Issued, Problem
from device_agent.wire.requests import Confirm, Proof, ProofKind
from device_agent.wire.secret import Secret
from fleet.model import CertificateState
from fleet.ra.context import Asker, Listener
from fleet.ra.people.stations import add_station
from fleet.ra.requests.answer import answer, answer_unit_confirm
from fleet.store.devices import load_device
from tests.desk import Desk, Unit, body_of, station_order

BENCH = Asker(listener=Listener.ADMIN, station="bench")


@pytest.fixture
async def bench(desk: Desk) -> Asker:
    await add_station(desk.context, station_order("bench", "repairs"))
    return BENCH


D1 = Identity(domain="prod", device_id="d1")


def by_code(code: Proof | Secret) -> Proof:
    return Proof(kind=ProofKind.STATION, code=code.code if isinstance(code, Proof) else code)


async def test_a_station_that_carries_a_code_makes_a_unit_anew_and_confirms_it(
    desk: Desk, bench: Asker
) -> None:
    _, first = await desk.enrolled("d1")
    code = await desk.code_for(D1)
    unit = Unit(device_id="d1")
    reply = await answer(desk.context, bench, unit.enroll(by_code(code)))
    assert isinstance(reply, Issued), reply
    again = await answer(desk.context, bench, unit.enroll(by_code(code)))
    assert isinstance(again, Issued), again
    assert again.serial == reply.serial
    confirmed = await answer_unit_confirm(desk.context, bench, body_of(Confirm(id="c")), serial=reply.serial)
    assert isinstance(confirmed, Confirmed), confirmed
    device = await desk.context.store.read(load_device, D1)
    assert device is not None
    states = {one.serial: one.state for one in device.certificates}
    assert states == {first.serial: CertificateState.DEAD, reply.serial: CertificateState.ACTIVE}


@pytest.mark.parametrize(("device_id", "domain"), [("d2", "prod"), ("d1", "lab")])
async def test_a_code_of_another_device_or_domain_admits_nothing_at_a_station(
    desk: Desk, bench: Asker, device_id: str, domain: str
) -> None:
    await desk.enrolled("d1")
    known = await desk.enrolled("d2") if device_id == "d2" else await desk.register(device_id, domain=domain)
    assert known
    code = await desk.code_for(Identity(domain=domain, device_id=device_id))
    reply = await answer(desk.context, bench, Unit(device_id="d1").enroll(by_code(code)))
    assert isinstance(reply, Problem), reply
    assert reply.code in {ProblemCode.CODE_INVALID, ProblemCode.BAD_IDENTITY, ProblemCode.NOT_ALLOWED}


async def test_a_wrong_code_is_not_made_good_by_the_stations_word(desk: Desk, bench: Asker) -> None:
    reply = await answer(desk.context, bench, Unit(device_id="new").enroll(by_code(Secret("WRNG"))))
    assert isinstance(reply, Problem), reply
    assert reply.code is ProblemCode.CODE_INVALID


async def test_who_is_no_station_carries_no_code_for_one(desk: Desk) -> None:
    await desk.enrolled("d1")
    nobody = Asker(listener=Listener.ADMIN, station="nobody")
    reply = await answer(desk.context, nobody, Unit(device_id="d1").enroll(by_code(await desk.code_for(D1))))
    assert isinstance(reply, Problem), reply
    assert reply.code is ProblemCode.NOT_ALLOWED


async def test_a_code_that_a_station_has_used_admits_no_other_key(desk: Desk, bench: Asker) -> None:
    await desk.enrolled("d1")
    code = await desk.code_for(D1)
    await answer(desk.context, bench, Unit(device_id="d1").enroll(by_code(code)))
    for asker, proof in ((bench, by_code(code)), (None, code)):
        thief = Unit(device_id="d1")
        reply = await answer(desk.context, asker or thief.at_bootstrap(), thief.enroll(proof))
        assert isinstance(reply, Problem), reply
        assert reply.code is ProblemCode.CODE_INVALID
