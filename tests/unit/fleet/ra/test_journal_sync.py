"""The server takes a station's journal in its place and order; whatever was done to it is found and told."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from device_agent.wire.secret import Secret
from fleet.core.badge import who_shows
from fleet.core.journal import Head, Kind, SignedEntry
from fleet.core.station_sync import JournalUpload
from fleet.errors import RefusedError
from fleet.ra.context import Asker, Listener
from fleet.ra.people.line_operators import add_line_operator, remove_line_operator
from fleet.ra.people.station_report import report
from fleet.ra.people.stations import begin_journal, close_station
from fleet.ra.requests.journal_sync import sync_journal
from fleet.store import audit
from fleet.store.station_journal import list_findings
from fleet.store.station_report import ReportQuery
from tests.desk import NOON, Desk
from tests.scribe import Scribe, scribe_of, sync


async def findings(desk: Desk) -> list[tuple[str, str]]:
    return [(one.kind, one.about) for one in await desk.context.store.read(list_findings, "line3")]


async def told(desk: Desk) -> list[dict[str, str]]:
    query = audit.AuditQuery(action="station.finding")
    entries = await desk.context.store.read(audit.search, query)
    return [dict(one.entry.details) for one in entries]


async def test_a_journal_is_taken_as_it_was_written_and_goes_on(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    first, second = scribe.some(3), [scribe.write(Kind.ATTEMPT)]
    assert (await sync(desk, first)).head.number == 3
    receipt = await sync(desk, second)
    assert (receipt.head, receipt.fault) == (scribe.head, "")
    assert await findings(desk) == []


async def test_what_was_sent_already_is_no_fault(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    entries = scribe.some()
    await sync(desk, entries)
    receipt = await sync(desk, [*entries, scribe.write(Kind.ATTEMPT)])
    assert (receipt.head, receipt.fault) == (scribe.head, "")


def cut(entries: list[SignedEntry], _scribe: Scribe) -> list[SignedEntry]:
    return [*entries[:2], *entries[3:]]


def reordered(entries: list[SignedEntry], _scribe: Scribe) -> list[SignedEntry]:
    return [entries[0], entries[2], entries[1], *entries[3:]]


def edited(entries: list[SignedEntry], _scribe: Scribe) -> list[SignedEntry]:
    octets = entries[2].octets.replace(b"hw-2", b"hw-9")
    return [*entries[:2], SignedEntry(octets=octets, signature=entries[2].signature), *entries[3:]]


def edited_and_signed(entries: list[SignedEntry], scribe: Scribe) -> list[SignedEntry]:
    """As the station itself could: the entry that follows gives it away."""
    return [*entries[:2], scribe.sign(entries[2].octets.replace(b"hw-2", b"hw-9")), *entries[3:]]


def garbled(entries: list[SignedEntry], scribe: Scribe) -> list[SignedEntry]:
    return [*entries[:2], scribe.sign(entries[2].octets + b" "), *entries[3:]]


def renumbered(entries: list[SignedEntry], scribe: Scribe) -> list[SignedEntry]:
    """The third is left out, and the fourth takes its number."""
    members = json.loads(entries[3].octets) | {"n": 3}
    octets = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return [*entries[:2], scribe.sign(octets)]


Spoil = Callable[[list[SignedEntry], Scribe], list[SignedEntry]]


@pytest.mark.parametrize(
    ("spoil", "taken", "kind"),
    [
        (cut, 2, "gap"),
        (reordered, 1, "gap"),
        (edited, 2, "forged"),
        (edited_and_signed, 3, "unchained"),
        (garbled, 2, "malformed"),
        (renumbered, 2, "unchained"),
    ],
)
async def test_a_journal_that_was_tampered_with_is_taken_up_to_there(
    desk: Desk, spoil: Spoil, taken: int, kind: str
) -> None:
    scribe = await scribe_of(desk)
    receipt = await sync(desk, spoil(scribe.some(), scribe))
    assert receipt.head.number == taken
    assert receipt.fault
    assert [one for one, _ in await findings(desk)] == [kind]
    assert [(one["name"], one["kind"]) for one in await told(desk)] == [("line3", kind)]


async def test_a_journal_that_begins_anew_is_found(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    await sync(desk, scribe.some())
    scribe.head = Head()
    scribe.at += timedelta(hours=1)
    receipt = await sync(desk, scribe.some())
    assert "the journal was changed" in receipt.fault
    assert await findings(desk) == [("rewritten", "1:1")]


async def test_an_operator_lets_a_station_whose_disk_was_lost_begin_anew(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    await sync(desk, scribe.some())
    scribe.head = Head()
    await begin_journal(desk.context, "line3", actor="operator:test", reason="disk lost")
    receipt = await sync(desk, scribe.some(3))
    assert (receipt.head.number, receipt.fault) == (3, "")
    lines = await report(desk.context, ReportQuery())
    assert [line.units for line in lines] == [4]


async def test_a_journal_of_another_station_is_refused(desk: Desk) -> None:
    await scribe_of(desk)
    other = await scribe_of(desk, "line4")
    receipt = await sync(desk, other.some())
    assert "of another station's journal" in receipt.fault
    assert await findings(desk) == [("stranger", "1:1")]


async def test_a_journal_signed_with_another_stations_key_is_refused(desk: Desk) -> None:
    await scribe_of(desk)
    other = await scribe_of(desk, "line4")
    other.station = "line3"
    receipt = await sync(desk, other.some())
    assert "is not signed with a key of this station" in receipt.fault


async def test_the_same_fault_is_told_once(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    entries = cut(scribe.some(), scribe)
    for _ in range(3):
        await sync(desk, entries)
    assert len(await told(desk)) == 1


async def test_a_closed_station_hands_nothing_in(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    await close_station(desk.context, "line3", actor="operator:test")
    with pytest.raises(RefusedError):
        await sync(desk, scribe.some())
    query = audit.AuditQuery(action="request.refused")
    (entry,) = await desk.context.store.read(audit.search, query)
    assert dict(entry.entry.details)["request"] == "journal"


@pytest.mark.parametrize("years", [-1, 1])
async def test_a_clock_that_is_wrong_by_a_year_is_found(desk: Desk, years: int) -> None:
    scribe = await scribe_of(desk)
    upload = JournalUpload(now=desk.clock() + timedelta(days=365 * years), entries=tuple(scribe.some()))
    await sync_journal(desk.context, Asker(listener=Listener.ADMIN, station="line3"), upload)
    (found,) = await told(desk)
    assert found["kind"] == "clock"
    assert "365 days" in found["reason"]


async def test_entries_from_the_future_and_clocks_that_went_back_are_found(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    entries = scribe.some(2)
    scribe.at += timedelta(days=365)
    entries.append(scribe.write(Kind.ATTEMPT))
    await sync(desk, entries)
    scribe.at = NOON
    desk.clock.forward(timedelta(days=400))
    await sync(desk, [scribe.write(Kind.ATTEMPT)])
    assert await findings(desk) == [("clock", "1:3"), ("clock", "1:4")]


async def test_the_station_is_told_who_works_there(desk: Desk) -> None:
    scribe = await scribe_of(desk)
    for name, pin in (("ada", "1234"), ("bob", "9876")):
        await add_line_operator(desk.context, "line3", name, badge=Secret(pin), actor="operator:test")
    await remove_line_operator(desk.context, "line3", "bob", actor="operator:test")
    receipt = await sync(desk, scribe.some())
    assert [one.name for one in receipt.operators] == ["ada"]
    verifiers = [(one.name, one.verifier) for one in receipt.operators]
    assert who_shows(Secret("1234"), verifiers) == "ada"
    assert who_shows(Secret("9876"), verifiers) is None
    assert "1234" not in receipt.encode().decode()


async def test_a_badge_is_one_persons(desk: Desk) -> None:
    await scribe_of(desk)
    await add_line_operator(desk.context, "line3", "ada", badge=Secret("1234"), actor="operator:test")
    with pytest.raises(RefusedError, match="has this badge"):
        await add_line_operator(desk.context, "line3", "bob", badge=Secret("1234"), actor="operator:test")
