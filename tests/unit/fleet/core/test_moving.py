"""Devices on their way: every state and event, and what must hold whatever happens."""

from datetime import UTC, datetime
from itertools import product

import pytest

from device_agent.wire.identity import Identity
from fleet.core.moving import (
    BEGINNINGS,
    OPEN,
    TRANSITIONS,
    Move,
    MoveAct,
    MoveEvent,
    MoveKind,
    MoveState,
    Step,
    follow,
)
from fleet.errors import RefusedError

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
D1 = Identity(domain="prod", device_id="d1")
EVERY = list(product(MoveKind, MoveState, MoveEvent))


def move(kind: MoveKind, state: MoveState) -> Move:
    return Move(
        number=1,
        kind=kind,
        state=state,
        identity=D1,
        target=D1,
        started_at=NOON,
        started_by="operator:ada",
        changed_at=NOON,
    )


def reachable(kind: MoveKind) -> set[MoveState]:
    found, left = set[MoveState](), [BEGINNINGS[kind].state]
    while left:
        state = left.pop()
        if state not in found:
            found.add(state)
            left += [step.state for (of, at, _), step in TRANSITIONS.items() if (of, at) == (kind, state)]
    return found


@pytest.mark.parametrize(("kind", "state", "event"), EVERY)
def test_every_event_has_a_step_or_is_refused(kind: MoveKind, state: MoveState, event: MoveEvent) -> None:
    if (kind, state, event) in TRANSITIONS:
        assert follow(move(kind, state), event) == TRANSITIONS[kind, state, event]
    else:
        with pytest.raises(RefusedError, match=f"a {kind} that is {state} takes no {event}"):
            follow(move(kind, state), event)


@pytest.mark.parametrize(("kind", "state", "event"), EVERY)
def test_what_has_ended_begins_no_more_and_changes_no_device(
    kind: MoveKind, state: MoveState, event: MoveEvent
) -> None:
    step = TRANSITIONS.get((kind, state, event))
    if step is not None and state not in OPEN:
        assert step == Step(state=state, act=MoveAct.NOTHING)


@pytest.mark.parametrize("kind", MoveKind)
def test_every_open_state_can_end(kind: MoveKind) -> None:
    for state in reachable(kind) & OPEN:
        ends = [step.state for (of, at, _), step in TRANSITIONS.items() if (of, at) == (kind, state)]
        assert set(ends) - OPEN or any(end in OPEN and end is not state for end in ends)


def test_nothing_stands_in_the_table_that_cannot_be_reached() -> None:
    assert all(state in reachable(kind) for kind, state, _ in TRANSITIONS)


def test_hardware_that_is_taken_back_goes_on_only_by_a_readmission() -> None:
    for (kind, state, event), step in TRANSITIONS.items():
        assert (step.act is MoveAct.RESUME) is (event is MoveEvent.READMIT), (kind, state, event)
    held = {state for kind, state, event in TRANSITIONS if event is MoveEvent.READMIT}
    assert held == {MoveState.HELD, MoveState.AWAY}


def test_the_old_certificate_goes_before_other_hardware_is_admitted_and_after_another_domain_has_it() -> None:
    for (kind, _, event), step in TRANSITIONS.items():
        if step.state is MoveState.WAITING:
            assert step.act is (MoveAct.ADMIT if kind is MoveKind.TRANSFER else MoveAct.EXCHANGE)
        assert (step.act is MoveAct.LEAVE) is (
            kind is MoveKind.TRANSFER and event is MoveEvent.ARRIVE and step != Step(state=MoveState.DONE)
        )


def test_a_code_that_was_lost_is_made_again_and_nothing_else_changes() -> None:
    for (_, state, event), step in TRANSITIONS.items():
        if event is MoveEvent.CODE:
            assert state is step.state is MoveState.WAITING
