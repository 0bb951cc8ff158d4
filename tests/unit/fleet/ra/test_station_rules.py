"""A station enrolls units of its batches only, in its serial numbers, shifts, rate and quota.

It speaks the raw protocol here, with its certificate, as software that minds no rule would.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from device_agent.wire.replies import Confirmed, Issued, Problem
from device_agent.wire.requests import Confirm, Proof, ProofKind
from fleet.core.station_change import RuleChange
from fleet.core.station_rules import RuleTexts
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.ra.context import Asker, Listener
from fleet.ra.keeping.replay_stations import change_station
from fleet.ra.people.claims import revoke_batch
from fleet.ra.people.stations import add_station, change_rules, close_station
from fleet.ra.requests.answer import answer, answer_unit_confirm
from fleet.ra.requests.applicants import StationWord
from fleet.ra.shown import shown_certificate
from fleet.store import audit
from fleet.store.stations import load_station, save_rules, used_of
from tests.desk import Desk, Unit, body_of, station_order

BY_STATION = Proof(kind=ProofKind.STATION)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A station at its server, over HTTPS with its certificate."""

    desk: Desk
    asker: Asker

    async def enroll(self, device_id: str, *, unit: Unit | None = None, **said: str) -> Issued | Problem:
        made = unit or Unit(device_id=device_id)
        word = StationWord(**said)  # type: ignore[arg-type]  # texts alone are said here
        reply = await answer(self.desk.context, self.asker, made.enroll(BY_STATION), word=word)
        assert isinstance(reply, Issued | Problem), reply
        return reply

    async def refused(self, device_id: str, **said: str) -> str:
        """Return what is said where a unit is refused."""
        reply = await self.enroll(device_id, **said)
        assert isinstance(reply, Problem), reply
        return reply.detail

    async def issued(self, device_id: str, **said: str) -> Issued:
        reply = await self.enroll(device_id, **said)
        assert isinstance(reply, Issued), reply
        return reply


async def line(desk: Desk, rules: RuleTexts, *, name: str = "line3", domain: str = "prod") -> Line:
    new = await add_station(desk.context, station_order(name, rules=rules, domain=domain))
    shown = shown_certificate(new.own.issued.der)
    assert shown is not None
    return Line(desk=desk, asker=Asker(listener=Listener.HTTPS, address="192.0.2.9", certificate=shown))


async def test_units_go_to_the_batch_that_the_station_names_among_its_own(desk: Desk) -> None:
    at = await line(desk, RuleTexts(batches=("spring", "winter")))
    await at.issued("d1", batch="winter")
    await at.issued("d2")
    assert await desk.context.store.read(used_of, "line3") == {"spring": 1, "winter": 1}
    assert "batch summer is none of station line3's" in await at.refused("d3", batch="summer")


async def test_a_device_of_another_batch_is_refused(desk: Desk) -> None:
    at = await line(desk, RuleTexts(batches=("spring",)))
    await line(desk, RuleTexts(batches=("winter",)), name="line4")
    await desk.register("d1", batch="winter")
    assert "is in no batch of station line3" in await at.refused("d1", batch="spring")


async def test_a_batch_that_was_closed_takes_no_unit(desk: Desk) -> None:
    at = await line(desk, RuleTexts(batches=("spring",)))
    await revoke_batch(desk.context, "prod", "spring", actor="operator:test")
    assert "batch spring of prod was closed" in await at.refused("d1")


async def test_only_serial_numbers_of_the_batch_are_given(desk: Desk) -> None:
    rules = RuleTexts(batches=("spring",), serials=("spring=s-0001..s-0003", "spring=x-10..x-20"))
    at = await line(desk, rules)
    for device_id in ("s-0001", "s-0003", "x-20"):
        await at.issued(device_id)
    for device_id in ("s-0000", "s-0004", "s-1", "s-00001", "x-21", "S-0001", "other"):
        assert "is not among the serial numbers of batch spring" in await at.refused(device_id)


async def test_a_quota_counts_units_and_not_certificates(desk: Desk) -> None:
    at = await line(desk, RuleTexts(batches=("spring",), quotas=("spring=2",)))
    first = await at.issued("d1")
    await at.issued("d1", replaces=first.serial)
    await at.issued("d2")
    assert "has used its quota of batch spring: 2 of 2" in await at.refused("d3")


async def test_a_request_that_is_repeated_is_answered_beyond_the_quota(desk: Desk) -> None:
    at = await line(desk, RuleTexts(batches=("spring",), quotas=("spring=1",)))
    unit = Unit(device_id="d1")
    first, again = await at.enroll("d1", unit=unit), await at.enroll("d1", unit=unit)
    assert isinstance(first, Issued)
    assert isinstance(again, Issued)
    assert first.serial == again.serial


async def test_a_quota_that_is_raised_lets_the_line_go_on(desk: Desk) -> None:
    at = await line(desk, RuleTexts(batches=("spring",), quotas=("spring=1",)))
    await at.issued("d1")
    await at.refused("d2")
    raised = RuleChange(quotas=("spring=2",))
    await change_rules(desk.context, "line3", raised, actor="operator:test")
    await at.issued("d2")
    await at.refused("d3")


async def test_a_rate_is_kept_minute_by_minute(desk: Desk) -> None:
    at = await line(desk, RuleTexts(batches=("spring",), rate_per_minute=2))
    await at.issued("d1")
    await at.issued("d2")
    third = await at.enroll("d3")
    assert isinstance(third, Problem)
    assert (third.code.value, third.retry.value) == ("rate-limited", "later")
    desk.clock.forward(timedelta(minutes=1))
    await at.issued("d3")


async def test_outside_of_its_shifts_a_station_enrolls_nothing(desk: Desk) -> None:
    # 1 June 2030, noon in UTC, is a Saturday, 14:00 in Berlin.
    at = await line(desk, RuleTexts(batches=("spring",), shifts=("sat 06:00-14:00 Europe/Berlin",)))
    assert "is outside of its shifts" in await at.refused("d1")
    desk.clock.forward(timedelta(minutes=-1))
    await at.issued("d1")


async def test_a_station_of_another_domain_reaches_no_device_here(desk: Desk) -> None:
    at = await line(desk, RuleTexts(batches=("spring",)), domain="lab")
    await desk.register("d1", batch=None)
    reply = await at.issued("d1")
    assert reply.broker.name == "lab:d1"


async def test_a_revoked_station_is_refused_at_once_though_its_connection_lives(desk: Desk) -> None:
    at = await line(desk, RuleTexts(batches=("spring",)))
    issued = await at.issued("d1")
    await close_station(desk.context, "line3", actor="operator:test", reason="stolen")
    assert "no station certificate in force" in await at.refused("d2")
    confirm = body_of(Confirm(id="c1"))
    reply = await answer_unit_confirm(desk.context, at.asker, confirm, serial=issued.serial)
    assert isinstance(reply, Problem)


async def test_the_station_of_this_home_is_held_to_the_same_rules(desk: Desk) -> None:
    await line(desk, RuleTexts(batches=("spring",), quotas=("spring=1",)))
    at = Line(desk=desk, asker=Asker(listener=Listener.ADMIN, station="line3"))
    issued = await at.issued("d1")
    await at.refused("d2")
    confirm = body_of(Confirm(id="c1"))
    reply = await answer_unit_confirm(desk.context, at.asker, confirm, serial=issued.serial)
    assert isinstance(reply, Confirmed)


async def test_rules_are_kept_as_they_were_given(desk: Desk) -> None:
    rules = RuleTexts(
        batches=("spring", "winter"),
        quotas=("spring=5",),
        serials=("winter=w-001..w-100",),
        shifts=("mon-fri 22:00-06:00 Europe/Berlin",),
        rate_per_minute=60,
    )
    await line(desk, rules)
    record = await desk.context.store.read(load_station, "line3")
    assert record is not None
    assert record.rules == rules.read()


async def test_a_restore_brings_changed_rules_back_from_the_trail(desk: Desk) -> None:
    before, after = RuleTexts(batches=("spring",)), RuleTexts(batches=("spring", "winter"), rate_per_minute=5)
    change = RuleChange(batches=("spring", "winter"), rate_per_minute=5)
    await line(desk, before)
    await change_rules(desk.context, "line3", change, actor="operator:test")
    query = audit.AuditQuery(action="station.changed")
    (stored,) = await desk.context.store.read(audit.search, query)
    record = await desk.context.store.read(load_station, "line3")
    assert record is not None
    await desk.context.store.write(save_rules, replace(record, rules=before.read()))
    await desk.context.store.write(change_station, stored.entry)
    restored = await desk.context.store.read(load_station, "line3")
    assert restored is not None
    assert restored.rules == after.read()


@pytest.mark.parametrize(
    "rules",
    [
        RuleTexts(batches=("spring",), quotas=("winter=5",)),
        RuleTexts(batches=("spring",), quotas=("spring=0",)),
        RuleTexts(batches=("spring",), quotas=("spring",)),
        RuleTexts(batches=("spring",), serials=("spring=a-9..a-1",)),
        RuleTexts(batches=("spring",), serials=("spring=a-1..b-9",)),
        RuleTexts(batches=("spring",), shifts=("mon-fri 06:00-14:00 Mars/Olympus",)),
        RuleTexts(batches=("spring",), shifts=("mon-fri 06:00-14:00 ../../etc/passwd",)),
        RuleTexts(batches=("spring",), shifts=("mon 25:00-26:00 UTC",)),
        RuleTexts(batches=("spring",), rate_per_minute=0),
    ],
    ids=lambda rules: ",".join((*rules.quotas, *rules.serials, *rules.shifts, str(rules.rate_per_minute))),
)
async def test_rules_that_say_nothing_are_refused(desk: Desk, rules: RuleTexts) -> None:
    with pytest.raises(BadInputError):
        await add_station(desk.context, station_order("line3", rules=rules))


async def test_a_key_that_is_a_devices_becomes_no_stations(desk: Desk) -> None:
    unit, _ = await desk.enrolled("d1")
    with pytest.raises(RefusedError, match="somebody's"):
        await add_station(desk.context, station_order("line3", "spring", csr=unit.csr))


async def test_rules_of_a_station_that_is_none_or_closed_are_not_changed(desk: Desk) -> None:
    rules, change = RuleTexts(batches=("spring",)), RuleChange(rate_per_minute=5)
    with pytest.raises(NotFoundError):
        await change_rules(desk.context, "line9", change, actor="operator:test")
    await line(desk, rules)
    with pytest.raises(BadInputError, match="nothing is named"):
        await change_rules(desk.context, "line3", RuleChange(), actor="operator:test")
    await close_station(desk.context, "line3", actor="operator:test")
    with pytest.raises(RefusedError, match="was closed"):
        await change_rules(desk.context, "line3", change, actor="operator:test")
