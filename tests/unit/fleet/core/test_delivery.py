"""The way of a notification: over every state and event, and who is told next."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.delivery import (
    TRANSITIONS,
    DeliveryEvent,
    DeliveryState,
    Unanswered,
    after,
    escalated_to,
    pause,
)
from fleet.core.notification_rule import Escalation, Receiver

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
FINAL = {DeliveryState.SENT, DeliveryState.DEAD}


@pytest.mark.parametrize(("state", "event"), list(product(DeliveryState, DeliveryEvent)))
def test_what_was_sent_or_given_up_stays_so_and_only_what_is_under_way_arrives(
    state: DeliveryState, event: DeliveryEvent
) -> None:
    found = after(state, event)

    if state in FINAL or (state, event) not in TRANSITIONS:
        assert found is state
    if found is DeliveryState.SENT and state is not found:
        assert (state, event) == (DeliveryState.SENDING, DeliveryEvent.ACCEPTED)
    if found is DeliveryState.SENDING and state is not found:
        assert (state, event) == (DeliveryState.WAITING, DeliveryEvent.BEGIN)


@given(happened=st.lists(st.sampled_from(DeliveryEvent), max_size=30))
def test_a_delivery_is_accepted_once_whatever_happens(happened: list[DeliveryEvent]) -> None:
    state, accepted = DeliveryState.WAITING, 0
    for event in happened:
        before, state = state, after(state, event)
        accepted += before is not state is DeliveryState.SENT
    assert accepted <= 1


@given(attempts=st.integers(0, 10_000), jitter=st.floats(0, 1))
def test_pauses_grow_up_to_an_hour_and_are_spread(attempts: int, jitter: float) -> None:
    found = pause(attempts, jitter)
    assert timedelta(seconds=15) <= found <= timedelta(hours=1)
    assert pause(attempts + 1, 0) >= pause(attempts, 0)
    assert pause(attempts, 0) * 2 >= found


STEPS = tuple(
    Escalation(after=timedelta(hours=hours), to=(Receiver(channel=f"c{hours}"),)) for hours in (1, 2, 4)
)


@given(
    hours=st.lists(st.integers(0, 6), min_size=1, max_size=8).map(sorted),
    acked_after=st.integers(0, 8),
)
def test_each_escalation_is_taken_once_in_its_order_and_none_after_somebody_has_seen_it(
    hours: list[int], acked_after: int
) -> None:
    stage, told = 0, list[str]()
    for place, each in enumerate(hours):
        seen = Unanswered(made_at=NOW, stage=stage, is_acked=place >= acked_after, stands=True)
        stage, receivers = escalated_to(STEPS, seen, now=NOW + timedelta(hours=each))
        told += [receiver.channel for receiver in receivers]
    last = max((each for each in hours[:acked_after]), default=-1)
    assert told == [f"c{each}" for each in (1, 2, 4) if each <= last]


def test_what_is_over_is_escalated_to_nobody() -> None:
    over = Unanswered(made_at=NOW, stage=0, is_acked=False, stands=False)
    assert escalated_to(STEPS, over, now=NOW + timedelta(days=1)) == (0, ())
