"""The journal: every entry numbered, chained and signed, in one commit with the step that it tells of."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from fleet.ca.signers import is_signed
from fleet.core.goodkey import certified_key
from fleet.core.journal import Head, Kind, Outcome, after, misplaced, parse_entry, signed_text
from fleet.core.station_recall import given_text
from fleet.errors import RefusedError
from fleet.station.keeping.ledger import Fate, Ledger
from fleet.station.keeping.life import UnitEvent
from fleet.station.keeping.package import IssueOrder, Package, pack
from fleet.station.keeping.units import Attempt
from tests.factory_floor import Floor, MemoryUnit, fixed_clock

FLOOR = Floor()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger.opened(tmp_path / "ledger.db", clock=fixed_clock, identity=FLOOR.identity) as opened:
        yield opened


async def made(ledger: Ledger, hardware_id: str = "hw-1", device_id: str = "d1") -> Package:
    """Take a unit from reserved to committed; return what it got."""
    csr = MemoryUnit().request(device_id)
    await ledger.reserve(hardware_id, device_id=device_id, model="", batch="spring")
    await ledger.add_request(hardware_id, csr)
    order = IssueOrder(device_id=device_id, hardware_id=hardware_id, csr=csr)
    package = pack(order, await replace(FLOOR.enroller, made={}, owners={}).issue(order))
    await ledger.add_package(hardware_id, number=1, package=package)
    for event in (UnitEvent.PROVEN, UnitEvent.COMMITTED):
        await ledger.record(hardware_id, number=1, event=event)
    return package


async def told(ledger: Ledger) -> list[tuple[Kind, dict[str, str]]]:
    entries = [parse_entry(one.octets) for one in await ledger.journal_after(0, most=100)]
    return [(entry.kind, dict(entry.details)) for entry in entries]


async def test_a_unit_that_is_made_leaves_what_was_issued_and_that_it_is_used(ledger: Ledger) -> None:
    package = await made(ledger)
    unit = {"hardware": "hw-1", "device": "d1", "serial": package.serial}
    given = given_text(package.hashes)
    assert await told(ledger) == [
        (Kind.OPENED, {}),
        (Kind.ISSUED, {**unit, "batch": "spring", "key": "device", "given": given}),
        (Kind.COMMITTED, unit),
    ]


async def test_what_is_said_again_is_told_once(ledger: Ledger) -> None:
    await made(ledger)
    before = await ledger.journal_head()
    for event in (UnitEvent.PROVEN, UnitEvent.COMMITTED, UnitEvent.SYNCED):
        await ledger.record("hw-1", number=1, event=event)
    assert await ledger.journal_head() == before


async def test_entries_are_numbered_chained_and_signed_by_the_station(ledger: Ledger) -> None:
    await made(ledger)
    key = certified_key(x509.load_der_x509_certificate(FLOOR.identity.chain[0]).public_key())
    head = Head()
    for one in await ledger.journal_after(0, most=100):
        entry = parse_entry(one.octets)
        assert misplaced(head, entry, station="line-3") is None
        assert entry.signer == FLOOR.identity.serial
        assert is_signed(key, one.signature, signed_text(one.octets))
        head = after(head, one.octets)
    assert head == await ledger.journal_head()


async def test_the_journal_goes_on_where_it_was_when_the_station_started_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for number in (2, 3):
        async with Ledger.opened(path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
            await ledger.note(Kind.SIGNED_ON, {"operator": "ada"})
            assert (await ledger.journal_head()).number == number


async def test_a_step_that_fails_leaves_no_entry(ledger: Ledger) -> None:
    await made(ledger)
    before = await ledger.journal_head()
    with pytest.raises(RefusedError):
        await ledger.add_package("hw-9", number=1, package=await package_of(ledger))
    assert await ledger.journal_head() == before


async def package_of(ledger: Ledger) -> Package:
    unit = await ledger.find("hw-1")
    assert unit is not None
    assert unit.generations[0].package is not None
    return unit.generations[0].package


async def test_visits_of_a_unit_are_counted(ledger: Ledger) -> None:
    await ledger.reserve("hw-1", device_id="d1", model="")
    failed = Attempt(hardware_id="hw-1", device_id="d1", outcome=Outcome.FAILED, reason="bad\ncable")
    assert [await ledger.note_attempt(failed), await ledger.note_attempt(failed)] == [1, 2]
    _, details = (await told(ledger))[-1]
    assert details == {
        "hardware": "hw-1",
        "device": "d1",
        "outcome": "failed",
        "reason": "bad?cable",
        "attempt": "2",
    }


async def test_quarantine_and_release_are_told_with_who_released(ledger: Ledger) -> None:
    await ledger.quarantine("hw-1", "it smells")
    await ledger.quarantine("hw-1", "it smells again")
    await ledger.release("hw-1", by="operator:ada", fate=Fate.REWORK)
    await ledger.release("hw-1", by="operator:bob")
    assert (await told(ledger))[1:] == [
        (Kind.QUARANTINED, {"hardware": "hw-1", "reason": "it smells"}),
        (Kind.REWORK, {"hardware": "hw-1", "by": "operator:ada"}),
    ]


@pytest.mark.parametrize("letter", ["a", '"', "\\", "\x00", "\u00e9", "\U0001f600"], ids=ascii)
async def test_no_reason_makes_an_entry_that_the_server_cannot_take(ledger: Ledger, letter: str) -> None:
    await ledger.quarantine("h" * 64, letter * 4096)
    attempt = Attempt(
        hardware_id="h" * 64,
        device_id="d" * 64,
        outcome=Outcome.FAILED,
        reason=letter * 4096,
        cause="not-answering",
        operator="o" * 64,
    )
    await ledger.note_attempt(attempt)
    assert [kind for kind, _ in await told(ledger)] == [Kind.OPENED, Kind.QUARANTINED, Kind.ATTEMPT]
