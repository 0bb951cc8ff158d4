"""The queue: a person decides once, about one key, by the code that both sides show; old requests go."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Issued, Pending, Problem
from device_agent.wire.requests import Proof
from fleet.errors import FleetError, NotFoundError, RefusedError
from fleet.model import Assurance
from fleet.ra.devices import Outcome
from fleet.ra.keeping.housekeeping import tick
from fleet.ra.people.explain import explain
from fleet.ra.requests.answer import answer
from fleet.ra.requests.approvals import Choice, approve, list_waiting, reject
from fleet.ra.requests.queue import LIFETIME, short_code
from fleet.store import waiting
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome

ADA, BOB = "operator:ada", "operator:bob"
TOML = """
[fleet]
name = "acme"
[domains.prod]
approval = true
[domains.lab]
"""


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk whose profile wants an approval of every first certificate."""
    async with at_desk(fleet_home, tmp_path, toml=TOML) as opened:
        yield opened


async def waits(desk: Desk, device_id: str = "d1") -> tuple[Unit, Proof]:
    """Return a unit that waits, with the proof that it goes on asking with."""
    unit, proof = Unit(device_id=device_id), await desk.code_for(await desk.register(device_id))
    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))
    assert isinstance(reply, Pending), reply
    assert reply.code == short_code(unit.key_hash)
    return unit, proof


def by_code(unit: Unit) -> Choice:
    return Choice(short_code=short_code(unit.key_hash))


async def test_who_waits_is_listed_with_what_was_proved_and_why_it_does_not_do(desk: Desk) -> None:
    unit, _ = await waits(desk)
    (request,) = await list_waiting(desk.context, 10)
    assert request.short_code == short_code(unit.key_hash)
    assert (request.assurance, request.evidence) == (Assurance.CODE, "a one-time code")
    assert request.reason == "its profile wants somebody's approval"


async def test_the_same_request_is_answered_once_somebody_approved_its_code(desk: Desk) -> None:
    unit, proof = await waits(desk)
    await approve(desk.context, by_code(unit), actor=ADA)
    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))
    assert isinstance(reply, Issued), reply
    assert await list_waiting(desk.context, 10) == ()


async def test_an_approval_is_of_the_key_that_was_looked_at(desk: Desk) -> None:
    unit, proof = await waits(desk)
    thief = Unit(device_id="d1")
    pending = await answer(desk.context, thief.at_bootstrap(), thief.enroll(proof))
    assert isinstance(pending, Pending)
    assert len({request.short_code for request in await list_waiting(desk.context, 10)}) == 2

    await approve(desk.context, by_code(unit), actor=ADA)

    stolen = await answer(desk.context, thief.at_bootstrap(), thief.enroll(proof))
    issued = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))
    assert not isinstance(stolen, Issued)
    assert isinstance(issued, Issued), issued


async def test_a_name_that_two_keys_ask_in_is_not_enough(desk: Desk) -> None:
    _, proof = await waits(desk)
    other = Unit(device_id="d1")
    await answer(desk.context, other.at_bootstrap(), other.enroll(proof))
    with pytest.raises(RefusedError, match="2 keys ask in the name of prod:d1"):
        await approve(desk.context, Choice(identity=Identity(domain="prod", device_id="d1")), actor=ADA)


async def test_a_rejected_request_is_refused_and_says_by_whom(desk: Desk) -> None:
    unit, proof = await waits(desk)
    await reject(desk.context, by_code(unit), actor=BOB, reason="never seen it")
    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))
    assert isinstance(reply, Problem)
    assert (reply.code, reply.detail) == (
        ProblemCode.NOT_ALLOWED,
        "the request was rejected by operator:bob",
    )
    assert await list_waiting(desk.context, 10) == ()
    story = await explain(desk.context, Identity(domain="prod", device_id="d1"))
    assert "device.rejected" in [entry.entry.action for entry in story.entries]


async def test_of_two_operators_who_decide_at_once_exactly_one_does(desk: Desk) -> None:
    unit, proof = await waits(desk)
    found = await asyncio.gather(
        approve(desk.context, by_code(unit), actor=ADA),
        reject(desk.context, by_code(unit), actor=BOB),
        approve(desk.context, by_code(unit), actor=BOB),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Outcome) for each in found) == 1
    assert sum(isinstance(each, FleetError) for each in found) == 2
    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))
    assert isinstance(reply, Issued) is isinstance(found[1], FleetError)


async def test_what_was_rejected_is_not_approved_any_more(desk: Desk) -> None:
    unit, _ = await waits(desk)
    await reject(desk.context, by_code(unit), actor=BOB)
    with pytest.raises(RefusedError, match="was rejected by operator:bob"):
        await approve(desk.context, by_code(unit), actor=ADA)


async def test_a_code_that_nobody_shows_lets_nobody_in(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="no request of 7K3M-9QXZ waits"):
        await approve(desk.context, Choice(short_code="7K3M-9QXZ"), actor=ADA)


async def test_what_nobody_decided_on_is_forgotten_after_a_week_and_may_be_asked_anew(desk: Desk) -> None:
    unit, proof = await waits(desk)
    desk.clock.forward(LIFETIME - timedelta(minutes=1))
    await tick(desk.context)
    assert len(await list_waiting(desk.context, 10)) == 1

    desk.clock.forward(timedelta(minutes=2))
    assert await list_waiting(desk.context, 10) == ()
    with pytest.raises(NotFoundError):
        await approve(desk.context, by_code(unit), actor=ADA)
    await tick(desk.context)
    assert await desk.context.store.read(waiting.of_code, short_code(unit.key_hash)) == ()
    fresh = await desk.code_for(Identity(domain="prod", device_id="d1"))
    assert isinstance(await answer(desk.context, unit.at_bootstrap(), unit.enroll(fresh)), Pending)
    assert proof != fresh
