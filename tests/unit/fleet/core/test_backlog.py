"""After an outage: the stated pace, unless somebody's time would run out."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.backlog import Drain, Held, drain_of

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def held(days_left: float, count: int) -> Held:
    end = NOW + DAY * days_left
    return Held(not_before=end - 90 * DAY, not_after=end, count=count)


backlogs = st.lists(
    st.builds(held, st.floats(min_value=0, max_value=60), st.integers(1, 50_000)), max_size=30
).map(lambda found: sorted(found, key=lambda one: one.not_after))


@given(backlogs, st.floats(min_value=0.1, max_value=1000))
def test_nobody_is_later_than_is_safe_and_the_pace_is_no_higher_than_that_takes(
    backlog: list[Held], stated: float
) -> None:
    drain, place, is_tight = drain_of(backlog, begins=NOW, a_second=stated), 0, False
    for one in backlog:
        place += one.count
        if one.deadline > NOW:
            assert drain.moment(place - 1) <= one.deadline
            is_tight |= drain.moment(place) >= one.deadline - timedelta(seconds=1)
    assert drain.a_second == stated or is_tight


@given(st.integers(0, 10_000_000), st.floats(min_value=0.1, max_value=1000))
def test_places_follow_each_other_at_the_pace(place: int, pace: float) -> None:
    drain = Drain(begins=NOW, a_second=pace)
    assert drain.moment(0) == NOW
    assert drain.moment(place) <= drain.moment(place + 1)


def test_a_day_that_was_missed_is_made_up_for_at_the_stated_pace() -> None:
    drain = drain_of([held(29, 12_000)], begins=NOW, a_second=2)
    assert (drain.a_second, drain.moment(12_000)) == (2, NOW + timedelta(seconds=6000))


def test_a_pace_that_would_let_certificates_end_is_raised() -> None:
    # 7.5 of 90 days must be left: two days to go.
    drain = drain_of([held(9.5, 1_000_000)], begins=NOW, a_second=1)
    assert drain.a_second == 1_000_000 / (2 * 86_400)
