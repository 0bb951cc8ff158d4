"""The clerk answers a session's questions from the ledger and the authority, and doubts what does not fit."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.wire.factory import LinkState
from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.problems import ProblemCode
from fleet.errors import BadInputError, RefusedError, UnreachableError
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitState
from fleet.station.keeping.package import IssueOrder
from fleet.station.link import steps
from fleet.station.link.causes import Cause
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from tests.factory_floor import Floor, MemoryEnroller, MemoryUnit, fixed_clock

FLOOR = Floor()
HELLO = HelloReply(nonce=bytes(16), hardware_id="hw-1", state=LinkState.FRESH)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger.opened(tmp_path / "ledger.db", clock=fixed_clock, identity=FLOOR.identity) as opened:
        yield opened


@pytest.fixture
def enroller() -> MemoryEnroller:
    return replace(FLOOR.enroller, made={}, owners={}, confirmed=[], revoked=[], journal=[])


@pytest.fixture
def clerk(ledger: Ledger, enroller: MemoryEnroller) -> Clerk:
    return Clerk(ledger=ledger, enroller=enroller, ids=IdRule(prefix="line3-"))


def issue_of(unit: MemoryUnit, device_id: str = "line3-0001") -> steps.Issue:
    return steps.Issue(hardware_id=unit.hardware_id, device_id=device_id, csr=unit.request(device_id))


async def issued(clerk: Clerk, unit: MemoryUnit) -> steps.Issued:
    assert isinstance(await clerk.decide(steps.Recognise(hello=HELLO)), steps.Enrol)
    decision = await clerk.decide(issue_of(unit))
    assert isinstance(decision, steps.Issued)
    return decision


async def test_a_new_unit_gets_the_next_number(clerk: Clerk) -> None:
    assert await clerk.decide(steps.Recognise(hello=HELLO)) == steps.Enrol(device_id="line3-0001")
    other = replace(HELLO, hardware_id="hw-2")
    assert await clerk.decide(steps.Recognise(hello=other)) == steps.Enrol(device_id="line3-0002")


async def test_a_known_unit_keeps_its_id(clerk: Clerk) -> None:
    for _ in range(2):
        assert await clerk.decide(steps.Recognise(hello=HELLO)) == steps.Enrol(device_id="line3-0001")


async def test_a_unit_that_wants_an_id_gets_it(clerk: Clerk) -> None:
    hello = replace(HELLO, device_id="mine")
    assert await clerk.decide(steps.Recognise(hello=hello)) == steps.Enrol(device_id="mine")


async def test_the_next_number_steps_over_an_id_that_a_unit_wanted(clerk: Clerk) -> None:
    await clerk.decide(steps.Recognise(hello=replace(HELLO, device_id="line3-0001")))
    other = replace(HELLO, hardware_id="hw-2")
    assert await clerk.decide(steps.Recognise(hello=other)) == steps.Enrol(device_id="line3-0002")


async def test_an_id_of_another_unit_is_refused(clerk: Clerk) -> None:
    await clerk.decide(steps.Recognise(hello=replace(HELLO, device_id="mine")))
    other = replace(HELLO, hardware_id="hw-2", device_id="mine")
    assert isinstance(await clerk.decide(steps.Recognise(hello=other)), steps.Refuse)


async def test_a_unit_that_changed_its_wish_is_refused(clerk: Clerk) -> None:
    await clerk.decide(steps.Recognise(hello=HELLO))
    decision = await clerk.decide(steps.Recognise(hello=replace(HELLO, device_id="other")))
    assert isinstance(decision, steps.Refuse)
    assert "other" in decision.reason


async def test_with_a_list_only_listed_units_are_taken(ledger: Ledger, enroller: MemoryEnroller) -> None:
    clerk = Clerk(ledger=ledger, enroller=enroller, ids=IdRule(listed={"hw-1": "d1"}))
    assert await clerk.decide(steps.Recognise(hello=HELLO)) == steps.Enrol(device_id="d1")
    other = replace(HELLO, hardware_id="hw-2", device_id="d2")
    assert isinstance(await clerk.decide(steps.Recognise(hello=other)), steps.Refuse)


async def test_without_a_rule_a_unit_without_a_wish_is_refused(
    ledger: Ledger, enroller: MemoryEnroller
) -> None:
    clerk = Clerk(ledger=ledger, enroller=enroller, ids=IdRule())
    assert isinstance(await clerk.decide(steps.Recognise(hello=HELLO)), steps.Refuse)


async def test_a_certificate_is_in_the_ledger_before_it_is_given_out(clerk: Clerk, ledger: Ledger) -> None:
    decision = await issued(clerk, MemoryUnit())
    unit = await ledger.find("hw-1")
    assert unit is not None
    assert unit.state is UnitState.ISSUED
    assert unit.generations[0].package == decision.package


async def test_the_same_key_gets_the_same_certificate_without_asking_again(
    clerk: Clerk, enroller: MemoryEnroller
) -> None:
    unit = MemoryUnit()
    first = await issued(clerk, unit)
    enroller.is_away = True
    assert await clerk.decide(issue_of(unit)) == first


async def test_a_wiped_unit_gets_a_new_certificate_and_its_last_one_is_revoked(
    clerk: Clerk, ledger: Ledger, enroller: MemoryEnroller
) -> None:
    unit = MemoryUnit()
    first = await issued(clerk, unit)
    unit.wipe()
    second = await clerk.decide(issue_of(unit))
    assert isinstance(second, steps.Issued)
    assert enroller.revoked == [first.package.serial]
    kept = await ledger.find("hw-1")
    assert kept is not None
    assert [one.state for one in kept.generations] == [UnitState.REVOKED, UnitState.ISSUED]


async def test_a_unit_wiped_while_its_answer_was_lost_still_replaces_what_the_server_made(
    clerk: Clerk, ledger: Ledger, enroller: MemoryEnroller
) -> None:
    unit = MemoryUnit()
    await clerk.decide(steps.Recognise(hello=HELLO))
    first = issue_of(unit)
    # The server made it, the station crashed before its answer was kept.
    await ledger.add_request("hw-1", first.csr)
    order = IssueOrder(device_id="line3-0001", hardware_id="hw-1", csr=first.csr)
    made = await enroller.issue(order)
    unit.wipe()
    assert isinstance(await clerk.decide(issue_of(unit)), steps.Issued)
    assert enroller.revoked == [made.serial]


async def test_a_unit_that_comes_back_with_a_replaced_key_is_doubted(clerk: Clerk) -> None:
    unit = MemoryUnit()
    await issued(clerk, unit)
    old = issue_of(unit)
    unit.wipe()
    await clerk.decide(issue_of(unit))
    assert isinstance(await clerk.decide(old), steps.Doubt)


@pytest.mark.parametrize("state", [LinkState.PENDING, LinkState.ACTIVE])
async def test_a_unit_with_a_certificate_of_ours_goes_on_from_there(clerk: Clerk, state: LinkState) -> None:
    package = (await issued(clerk, MemoryUnit())).package
    hello = replace(HELLO, state=state, fingerprint=package.fingerprint)
    decision = await clerk.decide(steps.Recognise(hello=hello))
    assert decision == steps.Resume(device_id="line3-0001", package=package)


@pytest.mark.parametrize("state", [LinkState.PENDING, LinkState.ACTIVE])
async def test_a_unit_with_an_unknown_certificate_is_doubted(clerk: Clerk, state: LinkState) -> None:
    hello = replace(HELLO, state=state, fingerprint=b"?" * 32)
    assert isinstance(await clerk.decide(steps.Recognise(hello=hello)), steps.Doubt)


async def test_a_unit_with_its_neighbours_certificate_is_doubted(clerk: Clerk) -> None:
    package = (await issued(clerk, MemoryUnit())).package
    hello = replace(HELLO, hardware_id="hw-2", state=LinkState.ACTIVE, fingerprint=package.fingerprint)
    assert isinstance(await clerk.decide(steps.Recognise(hello=hello)), steps.Doubt)


async def test_a_unit_with_a_replaced_certificate_is_doubted(clerk: Clerk) -> None:
    unit = MemoryUnit()
    package = (await issued(clerk, unit)).package
    unit.wipe()
    await clerk.decide(issue_of(unit))
    hello = replace(HELLO, state=LinkState.ACTIVE, fingerprint=package.fingerprint)
    assert isinstance(await clerk.decide(steps.Recognise(hello=hello)), steps.Doubt)


async def test_quarantine_lasts_until_it_is_released(clerk: Clerk, ledger: Ledger) -> None:
    await clerk.quarantine("hw-1", "it smells")
    assert await clerk.decide(steps.Recognise(hello=HELLO)) == steps.Doubt(
        reason="it smells", cause=Cause.QUARANTINED
    )
    await ledger.release("hw-1", by="operator:ada")
    assert isinstance(await clerk.decide(steps.Recognise(hello=HELLO)), steps.Enrol)


async def test_while_the_server_is_away_units_are_held(clerk: Clerk, enroller: MemoryEnroller) -> None:
    await clerk.decide(steps.Recognise(hello=HELLO))
    unit = MemoryUnit()
    enroller.is_away = True
    assert isinstance(await clerk.decide(issue_of(unit)), steps.Hold)
    enroller.is_away = False
    assert isinstance(await clerk.decide(issue_of(unit)), steps.Issued)


@pytest.mark.parametrize(
    ("code", "decision"),
    [(ProblemCode.KEY_IN_USE, steps.Doubt), (ProblemCode.NOT_ALLOWED, steps.Refuse)],
)
async def test_a_refusal_of_the_server_is_told_apart_by_its_code(
    clerk: Clerk, enroller: MemoryEnroller, code: ProblemCode, decision: type[steps.Decision]
) -> None:
    await clerk.decide(steps.Recognise(hello=HELLO))
    enroller.refuses = RefusedError("no", code=code)
    assert isinstance(await clerk.decide(issue_of(MemoryUnit())), decision)


async def test_proof_and_commit_are_written_down(clerk: Clerk, ledger: Ledger) -> None:
    package = (await issued(clerk, MemoryUnit())).package
    proof = steps.RecordProof(hardware_id="hw-1", fingerprint=package.fingerprint)
    commit = steps.RecordCommit(hardware_id="hw-1", fingerprint=package.fingerprint)
    assert [await clerk.decide(question) for question in (proof, commit)] == [steps.Recorded()] * 2
    unit = await ledger.find("hw-1")
    assert unit is not None
    assert unit.state is UnitState.COMMITTED


async def test_a_commit_without_a_proof_is_not_written_down(clerk: Clerk) -> None:
    package = (await issued(clerk, MemoryUnit())).package
    commit = steps.RecordCommit(hardware_id="hw-1", fingerprint=package.fingerprint)
    assert isinstance(await clerk.decide(commit), steps.Refuse)


async def committed(clerk: Clerk) -> str:
    package = (await issued(clerk, MemoryUnit())).package
    await clerk.decide(steps.RecordProof(hardware_id="hw-1", fingerprint=package.fingerprint))
    await clerk.decide(steps.RecordCommit(hardware_id="hw-1", fingerprint=package.fingerprint))
    return package.serial


async def test_the_server_is_told_once_of_what_was_committed(clerk: Clerk, enroller: MemoryEnroller) -> None:
    serial = await committed(clerk)
    assert [told async for told in clerk.sync()] == [serial]
    assert [told async for told in clerk.sync()] == []
    assert enroller.confirmed == [serial]


async def test_what_could_not_be_told_is_told_later(clerk: Clerk, enroller: MemoryEnroller) -> None:
    serial = await committed(clerk)
    enroller.is_away = True
    with pytest.raises(UnreachableError):
        await anext(clerk.sync())
    enroller.is_away = False
    assert [told async for told in clerk.sync()] == [serial]


def test_a_list_of_ids_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("hardware_id,device_id\nhw-1,d1\n\nhw-2, d2\n")
    assert IdRule.from_list(path).listed == {"hw-1": "d1", "hw-2": "d2"}


@pytest.mark.parametrize("row", ["hw-3", "hw-3,d3,x", "hw-3,a/b", "h w,d3", "hw-1,d3", "hw-3,d1", ",d3"])
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(f"hw-1,d1\n{row}\n")
    with pytest.raises(BadInputError, match=r"ids\.csv:2"):
        IdRule.from_list(path)


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError):
        IdRule.from_list(tmp_path / "none.csv")


@pytest.mark.parametrize("prefix", ["a/b", "+", "-", "x" * 61, "a b"])
def test_a_prefix_that_makes_no_id_is_refused(prefix: str) -> None:
    with pytest.raises(BadInputError):
        IdRule(prefix=prefix)
