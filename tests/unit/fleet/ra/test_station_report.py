"""What stations made is counted from their journals, and what does not agree with the records is found."""

from datetime import timedelta

from device_agent.wire.replies import Issued
from device_agent.wire.requests import Proof, ProofKind
from fleet.core.journal import Kind, SignedEntry
from fleet.core.station_change import RuleChange
from fleet.model import BrokerEventKind
from fleet.ra.context import Asker, Listener
from fleet.ra.people.station_health import stations as station_findings
from fleet.ra.people.station_report import report, suspects
from fleet.ra.people.stations import change_rules, close_station
from fleet.ra.requests.answer import answer
from fleet.store.station_report import By, ReportQuery, Yield
from tests.desk import Desk, Unit
from tests.scribe import Scribe, scribe_of, sync


async def made(desk: Desk, device_id: str, *, station: str = "line3") -> str:
    """Enroll a unit at the server, and return the serial of its certificate."""
    asker = Asker(listener=Listener.ADMIN, station=station)
    reply = await answer(desk.context, asker, Unit(device_id=device_id).enroll(Proof(kind=ProofKind.STATION)))
    assert isinstance(reply, Issued), reply
    return reply.serial


def issued(scribe: Scribe, hardware: str, device_id: str, serial: str) -> SignedEntry:
    details = {"hardware": hardware, "device": device_id, "serial": serial, "batch": "spring"}
    return scribe.write(Kind.ISSUED, details)


def visit(scribe: Scribe, hardware: str, device_id: str, outcome: str, **more: str) -> SignedEntry:
    details = {"hardware": hardware, "device": device_id, "outcome": outcome, "batch": "spring", **more}
    return scribe.write(Kind.ATTEMPT, {"attempt": "1", **details})


async def a_shift(desk: Desk, scribe: Scribe) -> None:
    """Three units: one passes at once, one at its second visit, one never."""
    await sync(
        desk,
        [
            scribe.write(Kind.OPENED),
            issued(scribe, "hw-1", "d1", await made(desk, "d1")),
            visit(scribe, "hw-1", "d1", "passed", operator="ada"),
            visit(scribe, "hw-2", "d2", "failed", operator="ada", cause="bad-cable"),
            issued(scribe, "hw-2", "d2", await made(desk, "d2")),
            visit(scribe, "hw-2", "d2", "passed", operator="bob", attempt="2"),
            visit(scribe, "hw-3", "d3", "quarantined", operator="bob", cause="wrong-proof"),
        ],
    )


async def kinds(desk: Desk, station: str = "") -> list[tuple[str, str]]:
    return [(one.kind, one.about) for one in await suspects(desk.context, station)]


async def test_units_are_counted_once_and_visits_one_by_one(desk: Desk) -> None:
    await a_shift(desk, await scribe_of(desk))
    (line,) = await report(desk.context, ReportQuery())
    assert line == Yield(
        name="line3",
        visits=4,
        units=3,
        issued=2,
        passed=2,
        first_pass=1,
        failed=1,
        quarantined=1,
        online=0,
    )
    assert await kinds(desk) == []


async def test_a_report_is_counted_by_what_is_asked(desk: Desk) -> None:
    await a_shift(desk, await scribe_of(desk))

    async def by(what: By) -> dict[str, tuple[int, int]]:
        lines = await report(desk.context, ReportQuery(by=what))
        return {line.name: (line.units, line.passed) for line in lines}

    assert await by(By.OPERATOR) == {"ada": (2, 1), "bob": (2, 1)}
    assert await by(By.BATCH) == {"spring": (3, 2)}
    assert await by(By.REASON) == {"(passed)": (2, 2), "bad-cable": (1, 0), "wrong-proof": (1, 0)}
    assert await by(By.ATTEMPT) == {"1": (3, 1), "2": (1, 1)}


async def test_a_unit_that_the_broker_has_seen_is_counted_as_online(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    serial = await made(desk, "d1")
    await sync(desk, [scribe.write(Kind.OPENED), issued(scribe, "hw-1", "d1", serial)])
    await sync(desk, [visit(scribe, "hw-1", "d1", "passed")])
    await desk.happens(BrokerEventKind.CONNECTED, serial, stamp=1)
    (line,) = await report(desk.context, ReportQuery(batch="spring"))
    assert (line.passed, line.online) == (1, 1)


async def test_other_stations_and_batches_are_left_out_where_one_is_asked(desk: Desk) -> None:
    await a_shift(desk, await scribe_of(desk))
    assert await report(desk.context, ReportQuery(station="line4")) == ()
    assert await report(desk.context, ReportQuery(batch="winter")) == ()


async def test_a_unit_that_the_journal_leaves_out_is_found(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    serial = await made(desk, "d1")
    await sync(desk, [scribe.write(Kind.OPENED)])
    assert await kinds(desk) == []
    desk.clock.forward(desk.clock() - desk.clock().replace(hour=0))
    await sync(desk, [scribe.write(Kind.ATTEMPT)])
    assert await kinds(desk, "line3") == [("missing", serial)]


async def test_a_certificate_that_nobody_made_is_found(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    await sync(desk, [scribe.write(Kind.OPENED), issued(scribe, "hw-1", "d1", "4" * 32)])
    assert await kinds(desk) == [("unknown", "4" * 32)]


async def test_hardware_that_was_made_twice_and_ids_in_two_units_are_found(desk: Desk) -> None:
    scribe, other = await scribe_of(desk), await scribe_of(desk, "line4")
    first, second = await made(desk, "d1"), await made(desk, "d2", station="line4")
    await sync(desk, [scribe.write(Kind.OPENED), issued(scribe, "hw-1", "d1", first)])
    await sync(
        desk,
        [
            other.write(Kind.OPENED),
            issued(other, "hw-1", "d2", second),
            issued(other, "hw-9", "d1", second),
        ],
        station="line4",
    )
    found = await kinds(desk)
    assert ("reused-hardware", "hw-1") in found
    assert ("clone", "d1") in found
    assert ("duplicate", second) in found
    assert ("clone", "d1") in await kinds(desk, "line3")


async def test_units_over_a_quota_that_was_lowered_are_found(desk: Desk) -> None:
    await scribe_of(desk)
    for device_id in ("d1", "d2"):
        await made(desk, device_id)
    lowered = RuleChange(quotas=("spring=1",))
    await change_rules(desk.context, "line3", lowered, actor="operator:test")
    assert await kinds(desk) == [("over-quota", "spring")]


async def test_what_is_wrong_says_where_to_look(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    entries = scribe.some()
    await sync(desk, [entries[0], entries[2]])
    (found,) = await suspects(desk.context)
    assert (found.kind, found.hint) == ("gap", "fleet audit search --actor station:line3")


async def test_a_hint_is_safe_to_paste_whatever_a_station_says(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    entries = [scribe.write(Kind.OPENED), *(issued(scribe, hw, "d1; reboot", "x; y") for hw in ("a", "b"))]
    await sync(desk, entries)
    hints = {one.kind: one.hint for one in await suspects(desk.context)}
    assert hints["clone"] == "fleet device explain 'd1; reboot'"
    assert hints["duplicate"] == "fleet cert show 'x; y'"


async def of_line3(desk: Desk) -> list[tuple[str, str]]:
    found = await station_findings(desk.context)
    return [(one.text, one.fix) for one in found if "line3" in one.text]


async def test_the_doctor_tells_of_news_about_stations_and_not_of_old_findings(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    assert await of_line3(desk) == []
    entries = scribe.some()
    await sync(desk, [entries[0], entries[2]])
    report_of = "fleet station report --findings --station line3"
    assert await of_line3(desk) == [("line3: what it did does not agree, 1 times", report_of)]
    desk.clock.forward(timedelta(days=31))
    assert await of_line3(desk) == []
    desk.clock.forward(timedelta(days=330))
    ((ending, renewal),) = await of_line3(desk)
    assert "the certificate of line3 ends" in ending
    assert renewal == "at the station: fleet station renew line3"
    await close_station(desk.context, "line3", actor="operator:test")
    assert await of_line3(desk) == []
