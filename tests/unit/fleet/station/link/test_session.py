"""Both halves of the factory link against each other, in memory, and the station's table of steps."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.core.station_transfer import Transfer, TransferError
from device_agent.wire import smp
from device_agent.wire.factory import Command, LinkState, Rc
from device_agent.wire.factory_calls import CallId, encode_answer
from device_agent.wire.factory_replies import Refusal
from device_agent.wire.factory_requests import Write
from device_agent.wire.framing import Frame, Framing
from device_agent.wire.objects import ObjectId
from device_agent.wire.smp import DEFAULT_GROUP, Header, Op
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitState
from fleet.station.link import steps
from fleet.station.link.causes import Cause
from fleet.station.link.session import Session
from fleet.station.link.steps import CALLS, ENDS, QUESTIONS, REFUSALS, STEPS, Event, Step
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from tests.factory_floor import Floor, MemoryUnit, counted_randomness, fixed_clock, run_session, session_of
from tests.factory_line import CLEAN_CALLS, FLOOR, Line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(path=tmp_path / "ledger.db")


@pytest.mark.parametrize("framing", Framing)
async def test_a_clean_line_takes_ten_calls(line: Line, framing: Framing) -> None:
    line.framings = (framing,)
    wire = line.wire()
    assert (await line.serve(wire)).step is Step.COMMITTED
    assert wire.requests == CLEAN_CALLS
    await line.assert_committed_once()


async def test_over_cobs_a_unit_costs_less_than_five_kilobytes(line: Line) -> None:
    wire = line.wire()
    await line.serve(wire)
    assert wire.bytes <= 5000


async def test_the_framing_that_the_unit_answers_in_is_kept(line: Line) -> None:
    wire = line.wire()
    wire.on_request = lambda number: number > 1
    assert (await line.serve(wire)).step is Step.COMMITTED
    assert wire.requests == CLEAN_CALLS + 1


async def test_a_unit_that_is_active_proves_and_commits_only(line: Line) -> None:
    await line.serve(line.wire())
    wire = line.wire()
    assert (await line.serve(wire)).step is Step.COMMITTED
    assert wire.requests == len(("HELLO", "PROVE", "COMMIT", "STATUS"))
    await line.assert_committed_once()


async def test_a_wiped_unit_is_made_again_and_its_earlier_generation_is_revoked(line: Line) -> None:
    await line.serve(line.wire())
    line.unit.wipe()
    assert (await line.serve(line.wire())).step is Step.COMMITTED
    async with Ledger.opened(line.path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
        unit = await ledger.find("hw-1")
    assert unit is not None
    assert [one.state for one in unit.generations] == [UnitState.REVOKED, UnitState.COMMITTED]
    assert len(line.enroller.revoked) == 1


async def test_a_unit_with_a_certificate_of_others_is_quarantined_untouched(line: Line) -> None:
    elsewhere = Line(path=line.path.with_name("other.db"), unit=line.unit)
    await elsewhere.serve(elsewhere.wire())
    before = line.unit.active
    assert (await line.serve(line.wire())).step is Step.QUARANTINED
    assert line.unit.active is before
    assert line.enroller.made == {}


async def test_a_unit_without_the_key_of_its_certificate_is_quarantined(line: Line) -> None:
    class Liar(MemoryUnit):
        def sign(self, message: bytes) -> bytes:
            return super().sign(message + b"!")

    line.unit = Liar(anchors=(FLOOR.anchor,))
    end = await line.serve(line.wire())
    assert (end.step, end.cause) == (Step.QUARANTINED, Cause.WRONG_PROOF)
    assert end.detail == "it does not hold the key of its certificate"
    assert line.unit.commits == 0


async def test_a_unit_whose_request_is_not_its_own_is_quarantined(line: Line) -> None:
    class Thief(MemoryUnit):
        def request(self, device_id: str) -> bytes:
            csr = bytearray(super().request(device_id))
            csr[-3] ^= 1
            return bytes(csr)

    line.unit = Thief(anchors=(FLOOR.anchor,))
    assert (await line.serve(line.wire())).step is Step.QUARANTINED
    assert line.enroller.made == {}


async def test_a_unit_that_does_not_trust_this_station_is_left_alone(line: Line) -> None:
    line.unit.anchors = (Floor().anchor,)
    end = await line.serve(line.wire(), tries=1)
    assert end.step is Step.FAILED
    assert "unauthorised" in end.detail
    assert line.unit.installs == 0


async def test_a_unit_without_an_anchor_says_that_it_took_the_stations_word(line: Line) -> None:
    line.unit.anchors = ()
    session = session_of(FLOOR, line.randomness)
    async with Ledger.opened(line.path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
        clerk = Clerk(ledger=ledger, enroller=line.enroller, ids=IdRule(prefix="a"))
        await run_session(session, line.wire(), clerk.decide)
    assert session.tofu


async def test_nobody_on_the_line_is_silence_not_a_failure(line: Line) -> None:
    wire = line.wire()
    wire.on_request = lambda _number: False
    assert (await line.serve(wire, tries=1)).step is Step.SILENT


@pytest.mark.parametrize(
    "unit",
    [
        MemoryUnit(hardware_id="a/b"),
        MemoryUnit(hardware_id=""),
        MemoryUnit(hardware_id="h" * 1500),
        MemoryUnit(hardware_id="+"),
        MemoryUnit(device_id="a/b"),
        MemoryUnit(device_id="#"),
        MemoryUnit(device_id="d\u0435vice"),
        MemoryUnit(device_id="x\ny"),
        MemoryUnit(model="evil\x1b[2J"),
    ],
)
async def test_a_unit_with_a_hostile_name_is_told_and_gets_nothing(line: Line, unit: MemoryUnit) -> None:
    line.unit = unit
    end = await line.serve(line.wire(), tries=1)
    assert end.step is Step.SILENT
    assert "cannot be read" in end.detail
    assert line.enroller.made == {}


async def test_while_the_server_is_away_the_unit_keeps_its_key(line: Line) -> None:
    line.enroller.is_away = True
    assert (await line.serve(line.wire(), tries=1)).step is Step.HELD
    assert line.unit.report().state is LinkState.KEYED
    line.enroller.is_away = False
    assert (await line.serve(line.wire())).step is Step.COMMITTED
    await line.assert_committed_once()


@pytest.mark.parametrize("largest", [128, 200, 256, 384, 1024])
async def test_small_devices_get_small_messages(
    line: Line, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_agent.core.station_link.LARGEST_MESSAGE", largest)
    longest = 0
    wire = line.wire()
    handle = wire.link.handle

    def watch(message: bytes, **rest: object) -> object:
        nonlocal longest
        longest = max(longest, len(message))
        return handle(message, **rest)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(wire.link, "handle", watch)
    assert (await line.serve(wire)).step is Step.COMMITTED
    # INSTALL cannot be cut: three hashes and a signature are one message.
    assert longest <= max(largest, 256)


def test_every_step_is_a_call_a_question_an_end_or_the_goodbye() -> None:
    assert {*CALLS, *QUESTIONS, *ENDS, Step.BYE} == set(Step)


def test_no_pair_of_step_and_event_leads_out_of_the_table() -> None:
    for step, event in itertools.product(Step, Event):
        after = STEPS.get((step, event))
        assert after is None or step not in ENDS
        assert after is not None or step is not Step.BYE


def reachable(start: Step) -> set[Step]:
    found, todo = {start}, [start]
    while todo:
        step = todo.pop()
        new = {after for (before, _), after in STEPS.items() if before is step} - found
        found |= new
        todo += new
    return found


def test_from_every_step_there_is_a_way_to_an_end() -> None:
    assert all(reachable(step) & set(ENDS) for step in Step)


def test_a_commit_is_reached_through_a_recorded_proof_only() -> None:
    assert {
        before for (before, _), after in STEPS.items() if after is Step.COMMIT and before is not after
    } == {Step.RECORD_PROOF}


def test_every_refusal_has_a_meaning() -> None:
    assert set(REFUSALS) == set(Rc)


@pytest.mark.parametrize("rc", [*Rc, 99, 65535])
async def test_a_unit_that_refuses_everything_ends_the_session(line: Line, rc: int) -> None:
    session = session_of(FLOOR, line.randomness)
    effect = session.start()
    for _ in range(2000):
        if isinstance(effect, steps.End):
            break
        assert isinstance(effect, steps.Send | steps.Wait)
        if isinstance(effect, steps.Wait):
            effect = session.timed_out()
            continue
        packet = smp.parse(effect.message)
        call_id = CallId(session=session.caller.session, sequence=packet.body.integer("q", highest=2**32))
        answer = encode_answer(packet.header, call_id, Refusal(rc=rc))
        next_effect = session.received(Frame(message=answer, framing=Framing.COBS), after=0.0)
        assert next_effect is not None
        effect = next_effect
    assert isinstance(effect, steps.End)


@settings(max_examples=150)
@given(st.binary(max_size=150), st.sampled_from(Command), st.sampled_from(Op), st.integers(0, 8))
def test_no_answer_makes_a_session_fail(body: bytes, command: Command, op: Op, answered: int) -> None:
    session = Session(
        identity=FLOOR.identity,
        pace=session_of(FLOOR, counted_randomness()).caller.pace,
        randomness=counted_randomness(),
    )
    session.start()
    header = bytes([8 | op, 0]) + len(body).to_bytes(2, "big") + bytes([0, 71, answered, command])
    session.received(Frame(message=header + body, framing=Framing.COBS), after=0.0)
    session.received(Frame(message=body, framing=Framing.COBS), after=0.0)
    assert session.step is Step.HELLO or session.step in ENDS


def test_a_late_answer_to_an_earlier_call_is_passed_over() -> None:
    session = session_of(FLOOR, counted_randomness())
    session.start()
    header = Header(op=Op.READ, group=DEFAULT_GROUP, sequence=1, command=Command.HELLO)
    late = encode_answer(header, CallId(session=b"00000000", sequence=1), Refusal(rc=6))
    assert session.received(Frame(message=late, framing=Framing.COBS), after=0.0) is None


@pytest.mark.parametrize("rc", [Rc.UNSUPPORTED, Rc.OFFSET])
async def test_a_device_that_has_no_place_for_the_stations_chain_gets_it_with_install(
    line: Line, rc: Rc, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Transfer.write

    def without_station_chain(transfer: Transfer, request: Write) -> int:
        if request.object_id is ObjectId.STATION_CHAIN:
            raise TransferError(rc, "it has three objects only")
        return write(transfer, request)

    monkeypatch.setattr(Transfer, "write", without_station_chain)
    monkeypatch.setattr("device_agent.core.station_link.LARGEST_MESSAGE", 384)
    assert (await line.serve(line.wire(), tries=1)).step is Step.COMMITTED
    await line.assert_committed_once()
