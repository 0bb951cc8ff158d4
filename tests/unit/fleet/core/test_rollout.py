"""A rollout's tables over every state and event, and its gate over every tally."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.rollout import (
    DEVICE_TRANSITIONS,
    OPEN,
    RULES,
    SUPERVISED,
    TRANSITIONS,
    DeviceEvent,
    DeviceState,
    Gate,
    RolloutEvent,
    RolloutState,
    Tally,
    Verdict,
    WaveStanding,
    after,
    device_after,
    judge,
)
from fleet.errors import RefusedError

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
_State, _Event, _Device = RolloutState, RolloutEvent, DeviceState
ENDS = {_State.DONE, _State.ROLLED_BACK, _State.ABANDONED}

few = st.integers(0, 30)
tallies = st.builds(
    Tally, waiting=few, told=few, updated=few, failed=few, absent=few, out=few, undone=st.just(0)
)
gates = st.builds(
    Gate,
    updated=st.floats(0, 1),
    failed=st.floats(0, 1),
    least=st.integers(1, 5),
    soak=st.timedeltas(timedelta(), timedelta(days=1)),
)
waves = st.builds(
    WaveStanding,
    tally=tallies,
    forgiven=few,
    settled_at=st.none() | st.just(NOON - timedelta(hours=1)),
)


@pytest.mark.parametrize(("state", "event"), list(product(RolloutState, RolloutEvent)))
def test_what_is_not_in_the_table_is_refused_and_what_is_done_twice_changes_nothing(
    state: RolloutState, event: RolloutEvent
) -> None:
    if (state, event) not in TRANSITIONS:
        with pytest.raises(RefusedError) as caught:
            after(state, event, name="spring")
        assert (caught.value.hint or "").startswith("fleet rollout ")
        return
    found = after(state, event, name="spring")
    again = TRANSITIONS.get((found, event))
    assert again in {found, None}, "a second time changes nothing, or is refused"


def test_every_open_rollout_can_come_to_an_end_and_an_end_stays_one() -> None:
    reached = set(ENDS)
    while more := {state for (state, _), found in TRANSITIONS.items() if found in reached} - reached:
        reached |= more
    assert reached == set(RolloutState)
    assert {found for (state, _), found in TRANSITIONS.items() if state in ENDS} == ENDS
    assert set(RolloutState) - ENDS == OPEN


def test_nobody_is_told_by_a_server_but_where_an_operator_or_a_gate_has_led() -> None:
    led = {(state, event) for (state, event), found in TRANSITIONS.items() if found is _State.RUNNING}
    assert {event for _, event in led} == {_Event.START, _Event.RESUME}
    assert SUPERVISED < OPEN


@pytest.mark.parametrize(("state", "event"), list(product(DeviceState, DeviceEvent)))
def test_a_word_of_a_device_that_comes_twice_or_late_does_no_harm(
    state: DeviceState, event: DeviceEvent
) -> None:
    found = device_after(state, event)
    assert device_after(found, event) is found
    if (state, event) not in DEVICE_TRANSITIONS:
        assert found is state
    if state in {_Device.UPDATED, _Device.UNDONE}:
        assert found in {_Device.UPDATED, _Device.UNDONE}, "what is done is undone by an order alone"
    if state is _Device.WAITING:
        assert found in {_Device.WAITING, _Device.TOLD, _Device.OUT}, "who was not told cannot have failed"


@given(gates, waves)
def test_the_first_rule_that_holds_decides_and_the_same_wave_gets_the_same_verdict(
    gate: Gate, wave: WaveStanding
) -> None:
    found = judge(gate, wave, now=NOON)
    assert found.rule in RULES
    assert judge(gate, wave, now=NOON) == found


@given(gates, waves)
def test_nobody_passes_before_all_have_answered_or_were_away(gate: Gate, wave: WaveStanding) -> None:
    if judge(gate, wave, now=NOON).verdict in {Verdict.PASSED, Verdict.SOAK, Verdict.SETTLE}:
        assert wave.tally.waiting == wave.tally.told == 0


@given(gates, waves)
def test_too_many_failures_always_halt(gate: Gate, wave: WaveStanding) -> None:
    there = wave.tally.there
    if not wave.forgiven and wave.tally.failed > gate.failed * there:
        assert judge(gate, wave, now=NOON).verdict is Verdict.HALT


@given(gates, tallies, st.integers(1, 1000))
def test_devices_that_are_away_hold_up_nobody_who_is_there(gate: Gate, tally: Tally, away: int) -> None:
    """However many are in their boxes, the verdict on the others is the same, once enough have come."""
    here = WaveStanding(tally=Tally(updated=tally.updated + gate.least, failed=tally.failed, told=tally.told))
    boxed = WaveStanding(
        tally=Tally(updated=tally.updated + gate.least, failed=tally.failed, told=tally.told, absent=away)
    )
    assert judge(gate, here, now=NOON).verdict is judge(gate, boxed, now=NOON).verdict


@given(gates, waves)
def test_one_more_failure_never_turns_a_halt_round(gate: Gate, wave: WaveStanding) -> None:
    tally = wave.tally
    if judge(gate, wave, now=NOON).verdict is Verdict.HALT and tally.told:
        worse = Tally(
            waiting=tally.waiting,
            told=tally.told - 1,
            updated=tally.updated,
            failed=tally.failed + 1,
            absent=tally.absent,
            out=tally.out,
        )
        standing = WaveStanding(tally=worse, forgiven=wave.forgiven, settled_at=wave.settled_at)
        assert judge(gate, standing, now=NOON).verdict is Verdict.HALT


def test_a_soak_begins_when_all_have_answered_and_ends_in_its_time() -> None:
    gate, tally = Gate(soak=timedelta(hours=1)), Tally(updated=20)
    assert judge(gate, WaveStanding(tally=tally), now=NOON).verdict is Verdict.SETTLE
    settled = WaveStanding(tally=tally, settled_at=NOON)
    assert judge(gate, settled, now=NOON + timedelta(minutes=59)).verdict is Verdict.SOAK
    assert judge(gate, settled, now=NOON + timedelta(hours=1)).verdict is Verdict.PASSED
