"""One-time codes that are guessed, raced and replayed: bounded by device and by source over every channel."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Issued, Problem
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret
from fleet.model import BrokerEvent, BrokerEventKind, ClientKind
from fleet.ra.context import GUESSES_PER_MINUTE, Asker, Listener
from fleet.ra.requests.answer import answer
from tests.desk import NOON, Desk, Unit

WRONG = Proof(kind=ProofKind.CODE, code=Secret("nothing"))
PLACE = "192.0.2.9"


def connected(desk: Desk, unit: Unit, address: str) -> None:
    """Let the broker have told of a bootstrap connection."""
    event = BrokerEvent(
        kind=BrokerEventKind.CONNECTED,
        stamp=1,
        issuer="aa",
        serial="40" * 16,
        name="claim",
        client_id=unit.key_hash,
        address=address,
        at=NOON,
    )
    desk.context.presence.note(event)


def by_mqtt(desk: Desk, unit: Unit) -> Asker:
    connected(desk, unit, PLACE)
    return unit.at_bootstrap()


def by_mqtt_unseen(_desk: Desk, unit: Unit) -> Asker:
    return unit.at_bootstrap()


def by_https(_desk: Desk, _unit: Unit) -> Asker:
    return Asker(listener=Listener.HTTPS, address=PLACE)


def by_est(_desk: Desk, _unit: Unit) -> Asker:
    return Asker(listener=Listener.HTTPS, address=PLACE, domain="prod", kind=ClientKind.PLAIN)


async def code_of(desk: Desk, asker: Asker, unit: Unit, proof: Proof) -> ProblemCode | None:
    reply = await answer(desk.context, asker, unit.enroll(proof))
    return reply.code if isinstance(reply, Problem) else None


def by_station(_desk: Desk, _unit: Unit) -> Asker:
    return Asker(listener=Listener.ADMIN, station="line1")


@pytest.mark.parametrize("way", [by_mqtt, by_mqtt_unseen, by_https, by_est, by_station])
async def test_one_source_guesses_only_so_often_over_every_channel(
    desk: Desk, way: Callable[[Desk, Unit], Asker]
) -> None:
    limit = desk.context.config.policy.recover_per_minute
    found = []
    for number in range(limit + 1):
        unit = Unit(device_id=f"d{number}")
        found.append(await code_of(desk, way(desk, unit), unit, WRONG))
    assert found == [ProblemCode.CODE_INVALID] * limit + [ProblemCode.RATE_LIMITED]


async def test_mqtt_and_https_of_one_place_are_one_source(desk: Desk) -> None:
    limit = desk.context.config.policy.recover_per_minute
    for number in range(limit):
        unit = Unit(device_id=f"d{number}")
        asker = by_https(desk, unit) if number % 2 else by_mqtt(desk, unit)
        assert await code_of(desk, asker, unit, WRONG) is ProblemCode.CODE_INVALID
    unit = Unit(device_id="one-more")
    assert await code_of(desk, by_mqtt(desk, unit), unit, WRONG) is ProblemCode.RATE_LIMITED


async def test_one_device_is_guessed_at_only_so_often_from_however_many_places_at_once(desk: Desk) -> None:
    def asker(number: int) -> Asker:
        return Asker(listener=Listener.HTTPS, address=f"192.0.2.{number}")

    unit = Unit(device_id="d1")
    tries = (code_of(desk, asker(number), unit, WRONG) for number in range(GUESSES_PER_MINUTE + 20))
    found = await asyncio.gather(*tries)
    assert found.count(ProblemCode.CODE_INVALID) == GUESSES_PER_MINUTE
    assert found.count(ProblemCode.RATE_LIMITED) == 20


async def test_right_codes_use_nothing_up_and_a_limit_ends(desk: Desk) -> None:
    limit = desk.context.config.policy.recover_per_minute
    for number in range(limit + 5):
        unit = Unit(device_id=f"d{number}")
        proof = await desk.code_for(await desk.register(unit.device_id))
        assert await code_of(desk, by_https(desk, unit), unit, proof) is None
    unit = Unit(device_id="late")
    proof = await desk.code_for(await desk.register("late"), lifetime=timedelta(hours=1))
    for _ in range(limit):
        await code_of(desk, by_https(desk, unit), Unit(device_id="late"), WRONG)
    assert await code_of(desk, by_https(desk, unit), unit, proof) is ProblemCode.RATE_LIMITED
    desk.clock.forward(timedelta(minutes=1))
    assert await code_of(desk, by_https(desk, unit), unit, proof) is None


async def test_a_code_that_many_keys_race_for_admits_exactly_one(desk: Desk) -> None:
    proof = await desk.code_for(await desk.register("d1"))
    askers = [Asker(listener=Listener.HTTPS, address=f"192.0.2.{number}") for number in range(8)]
    replies = await asyncio.gather(
        *(answer(desk.context, asker, Unit(device_id="d1").enroll(proof)) for asker in askers)
    )
    assert sum(isinstance(reply, Issued) for reply in replies) == 1
    refused = [reply.code for reply in replies if isinstance(reply, Problem)]
    assert refused == [ProblemCode.CODE_CONFLICT] * 7


async def test_a_code_that_is_replayed_gets_its_key_the_same_certificate_and_another_none(desk: Desk) -> None:
    proof = await desk.code_for(await desk.register("d1"))
    unit, asker = Unit(device_id="d1"), Asker(listener=Listener.HTTPS, address=PLACE)
    first = await answer(desk.context, asker, unit.enroll(proof))
    again = await answer(desk.context, asker, unit.enroll(proof))
    assert isinstance(first, Issued)
    assert isinstance(again, Issued)
    assert first.serial == again.serial
    assert await code_of(desk, asker, Unit(device_id="d1"), proof) is ProblemCode.CODE_CONFLICT
