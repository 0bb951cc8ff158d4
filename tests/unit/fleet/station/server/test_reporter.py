"""A station and its server: the journal goes up whole, rules come down and stay, units that waited go on."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.wire.factory import LinkState
from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.secret import Secret
from fleet.core.badge import verifier_of
from fleet.core.journal import Kind, Outcome, parse_entry
from fleet.core.station_sync import LineOperator
from fleet.errors import NeedsAttentionError, RefusedError, UnreachableError
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.units import Attempt
from fleet.station.link import steps
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from tests.factory_floor import Floor, MemoryEnroller, MemoryUnit, fixed_clock

FLOOR = Floor()
ADA = LineOperator(name="ada", verifier=verifier_of(Secret("1234"), salt=b"salt", work_factor=1))


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    path = tmp_path / "ledger.db"
    async with Ledger.opened(path, clock=fixed_clock, identity=FLOOR.identity) as opened:
        yield opened


@pytest.fixture
def enroller() -> MemoryEnroller:
    fresh = replace(FLOOR.enroller, made={}, owners={}, confirmed=[], revoked=[], journal=[])
    return replace(fresh, operators=(ADA,))


@pytest.fixture
def clerk(ledger: Ledger, enroller: MemoryEnroller) -> Clerk:
    ids = IdRule(prefix="line3-")
    return Clerk(ledger=ledger, enroller=enroller, ids=ids, batch="spring", clock=fixed_clock)


async def waiting(clerk: Clerk, hardware_id: str) -> None:
    """Bring a unit as far as its key, while the server is away."""
    hello = HelloReply(nonce=bytes(16), hardware_id=hardware_id, state=LinkState.FRESH)
    enrol = await clerk.decide(steps.Recognise(hello=hello))
    assert isinstance(enrol, steps.Enrol)
    csr = MemoryUnit(hardware_id=hardware_id).request(enrol.device_id)
    asked = steps.Issue(hardware_id=hardware_id, device_id=enrol.device_id, csr=csr)
    assert isinstance(await clerk.decide(asked), steps.Hold)


async def test_units_that_waited_for_the_server_get_their_certificates_once(
    clerk: Clerk, ledger: Ledger, enroller: MemoryEnroller
) -> None:
    enroller.is_away = True
    for hardware_id in ("hw-1", "hw-2"):
        await waiting(clerk, hardware_id)
    with pytest.raises(UnreachableError):
        _ = [unit async for unit in clerk.forward()]
    enroller.is_away = False
    assert [unit async for unit in clerk.forward()] == ["hw-1", "hw-2"]
    assert [unit async for unit in clerk.forward()] == []
    assert await ledger.queued() == ()
    assert len(enroller.made) == 2


async def test_a_unit_that_the_server_refuses_holds_up_no_other(
    clerk: Clerk, ledger: Ledger, enroller: MemoryEnroller
) -> None:
    enroller.is_away = True
    for hardware_id in ("hw-1", "hw-2"):
        await waiting(clerk, hardware_id)
    enroller.is_away = False
    enroller.owners["line3-0001"] = "another"
    assert [unit async for unit in clerk.forward()] == ["hw-2"]
    assert await ledger.queued() == (("hw-1", "line3-0001"),)


async def test_a_unit_in_quarantine_is_not_asked_for(clerk: Clerk, enroller: MemoryEnroller) -> None:
    enroller.is_away = True
    await waiting(clerk, "hw-1")
    await clerk.quarantine("hw-1", "it smells")
    enroller.is_away = False
    assert [unit async for unit in clerk.forward()] == []


async def test_the_journal_goes_up_once_and_goes_on(clerk: Clerk, enroller: MemoryEnroller) -> None:
    failed = Attempt(hardware_id="hw-1", device_id="d1", outcome=Outcome.FAILED)
    assert await clerk.finish(failed) == 1
    await clerk.upload()
    await clerk.finish(failed)
    receipt = await clerk.upload()
    assert [parse_entry(one.octets).number for one in enroller.journal] == [1, 2, 3]
    assert receipt.head.number == 3


async def test_an_upload_that_was_cut_goes_on_where_the_server_is(
    clerk: Clerk, ledger: Ledger, enroller: MemoryEnroller
) -> None:
    for number in range(450):
        await ledger.note(Kind.SIGNED_ON, {"operator": f"ada{number}"})
    enroller.journal = list(await ledger.journal_after(0, most=7))
    await clerk.upload()
    assert [parse_entry(one.octets).number for one in enroller.journal] == list(range(1, 452))


async def test_a_server_that_knows_more_than_the_ledger_is_told_to_somebody(
    clerk: Clerk, ledger: Ledger, enroller: MemoryEnroller
) -> None:
    await ledger.note(Kind.SIGNED_ON, {"operator": "ada"})
    entries = await ledger.journal_after(0, most=9)
    enroller.journal = [*entries, *entries]
    with pytest.raises(NeedsAttentionError, match="older copy"):
        await clerk.upload()


async def test_an_operator_signs_on_by_a_badge_though_the_server_is_away(
    clerk: Clerk, ledger: Ledger, enroller: MemoryEnroller
) -> None:
    assert await clerk.sign_on(Secret("1234")) is None
    await clerk.upload()
    enroller.is_away = True
    assert await clerk.sign_on(Secret("9999")) is None
    assert clerk.operator == ""
    assert await clerk.sign_on(Secret("1234")) == "ada"
    await clerk.finish(Attempt(hardware_id="hw-1", device_id="d1", outcome=Outcome.PASSED))
    signed_on, attempt = [parse_entry(one.octets) for one in await ledger.journal_after(1, most=9)]
    assert (signed_on.kind, signed_on.detail("operator")) == (Kind.SIGNED_ON, "ada")
    assert (attempt.detail("operator"), attempt.detail("batch")) == ("ada", "spring")


async def test_a_refusal_of_the_server_is_not_taken_for_its_absence(
    clerk: Clerk, enroller: MemoryEnroller
) -> None:
    enroller.refuses = RefusedError("its quota is used")
    hello = HelloReply(nonce=bytes(16), hardware_id="hw-1", state=LinkState.FRESH)
    await clerk.decide(steps.Recognise(hello=hello))
    csr = MemoryUnit().request("line3-0001")
    decision = await clerk.decide(steps.Issue(hardware_id="hw-1", device_id="line3-0001", csr=csr))
    assert isinstance(decision, steps.Refuse)
