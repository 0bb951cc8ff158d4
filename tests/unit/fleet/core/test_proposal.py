"""When an act needs a second person, what becomes of one that was proposed, and what it may still touch."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.proposal import (
    TRANSITIONS,
    ActKind,
    ProposalEvent,
    ProposalState,
    SecondPersonRule,
    drift_of,
    selection_digest,
    why_second,
)

NAMES = st.sets(st.text(alphabet="abcd:0123", min_size=1, max_size=6), max_size=12)
USUAL = SecondPersonRule()
OVER = set(ProposalState) - {ProposalState.OPEN, ProposalState.APPROVED}


@pytest.mark.parametrize(
    ("count", "total", "why"),
    [
        (1, 1, ""),
        (10, 20, ""),
        (11, 20, "11 of 20 devices are more than 10 %"),
        (11, 110, ""),
        (12, 110, "12 of 110 devices are more than 10 %"),
        (100, 1_000_000, ""),
        (101, 1_000_000, "101 devices are more than 100"),
    ],
)
def test_an_act_needs_a_second_person_beyond_a_number_or_a_part_of_the_devices(
    count: int, total: int, why: str
) -> None:
    assert why_second(USUAL, ActKind.REVOKE, count=count, total=total) == why


@given(
    st.integers(1, 500),
    st.integers(0, 100),
    st.integers(1, 500),
    st.integers(1, 10_000),
    st.sampled_from(ActKind),
)
def test_one_device_never_waits_and_who_does_more_never_needs_less(
    devices: int, percent: int, percent_from: int, total: int, kind: ActKind
) -> None:
    rule = SecondPersonRule(devices=devices, percent=percent, percent_from=percent_from)
    needs = [bool(why_second(rule, kind, count=count, total=total)) for count in range(1, 40)]
    assert not needs[0]
    assert needs == sorted(needs)


def test_a_kind_that_always_needs_one_needs_one_for_nothing_too() -> None:
    rule = SecondPersonRule(always=frozenset({ActKind.POLICY}))
    assert why_second(rule, ActKind.POLICY, count=0, total=0) == "policy always needs a second operator"
    assert not why_second(rule, ActKind.REVOKE, count=1, total=1)


@pytest.mark.parametrize(("state", "event"), list(product(ProposalState, ProposalEvent)))
def test_what_has_ended_stays_ended_and_is_never_done(state: ProposalState, event: ProposalEvent) -> None:
    after = TRANSITIONS.get((state, event))
    if state in OVER:
        assert after in {None, state}
    if after is ProposalState.DONE:
        assert (state, event) == (ProposalState.APPROVED, ProposalEvent.FINISH)
    if after is ProposalState.APPROVED:
        assert event is ProposalEvent.APPROVE
    if event is ProposalEvent.WITHDRAW and state is ProposalState.APPROVED:
        assert after is None


@given(NAMES, NAMES)
def test_only_what_was_shown_and_is_still_selected_may_be_touched(shown: set[str], now: set[str]) -> None:
    drift = drift_of(shown, now)
    assert set(drift.kept) == shown & now
    assert drift.gone == len(shown - now)
    assert drift.new == len(now - shown)
    assert drift.exceeds(0) == (shown != now)


@given(NAMES, NAMES)
def test_two_selections_have_one_digest_only_if_they_are_the_same(one: set[str], other: set[str]) -> None:
    assert (selection_digest(one) == selection_digest(sorted(other, reverse=True))) == (one == other)


def test_a_selection_of_which_nothing_is_left_has_changed_too_much_whatever_is_allowed() -> None:
    assert drift_of({"a"}, {"b"}).exceeds(100)
    assert not drift_of({"a", "b"}, {"a"}).exceeds(50)
    assert drift_of({"a", "b"}, {"a", "c"}).exceeds(50)
