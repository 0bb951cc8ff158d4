"""What time a device believes, by its floor, its two clocks and what the server signed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.clock import (
    LEAP,
    SLACK,
    Belief,
    Moment,
    Reading,
    TimeSource,
    heard,
    looked,
    moment,
    raised,
    started,
)
from device_agent.errors import UntrustedTimeError
from device_agent.released import RELEASED

FLOOR = datetime(2030, 5, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
LATER = timedelta(hours=3)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def reading(system: datetime, elapsed: timedelta = timedelta()) -> Reading:
    return Reading(system=system, elapsed=elapsed)


def signed(told: datetime = FLOOR + timedelta(days=100)) -> Belief:
    return heard(started(FLOOR, reading(EPOCH)), told, reading(EPOCH))


def working() -> Belief:
    """Return what is known on a machine whose clock was good at the start."""
    return looked(started(FLOOR, reading(FLOOR)), reading(FLOOR + timedelta(days=1)))


BELIEFS = {"a floor": started(FLOOR, reading(EPOCH)), "a good clock": working(), "a signed time": signed()}
SYSTEMS = {
    "agrees": timedelta(minutes=1),
    "is in 1970": EPOCH - FLOOR,
    "is a year behind": -YEAR,
    "is a year ahead": YEAR,
}
EXPECTED = {
    ("a floor", "agrees"): TimeSource.SYSTEM,
    ("a floor", "is in 1970"): TimeSource.FLOOR,
    ("a floor", "is a year behind"): TimeSource.FLOOR,
    ("a floor", "is a year ahead"): TimeSource.FLOOR,
    ("a good clock", "agrees"): TimeSource.SYSTEM,
    ("a good clock", "is in 1970"): TimeSource.ELAPSED,
    ("a good clock", "is a year behind"): TimeSource.ELAPSED,
    ("a good clock", "is a year ahead"): TimeSource.ELAPSED,
    ("a signed time", "agrees"): TimeSource.SYSTEM,
    ("a signed time", "is in 1970"): TimeSource.SIGNED,
    ("a signed time", "is a year behind"): TimeSource.SIGNED,
    ("a signed time", "is a year ahead"): TimeSource.SIGNED,
}


@pytest.mark.parametrize(("known", "system"), EXPECTED)
def test_whose_time_is_believed_where_this_is_known_and_the_clock_does_that(known: str, system: str) -> None:
    belief = BELIEFS[known]
    later = belief.elapsed + LATER
    clock = belief.expected(reading(EPOCH, later)) + SYSTEMS[system]
    found = moment(belief, reading(clock, later))
    assert found.source is EXPECTED[known, system]
    assert found.now == (clock if system == "agrees" else belief.good + LATER)


def test_a_clock_that_is_set_right_while_it_runs_is_believed_from_then_on() -> None:
    belief = signed()
    assert moment(belief, reading(EPOCH + LATER, LATER)).source is TimeSource.SIGNED
    assert moment(belief, reading(belief.good + LATER, LATER)).source is TimeSource.SYSTEM


@pytest.mark.parametrize("ahead", [LATER, YEAR, 10 * YEAR])
def test_where_only_a_floor_is_known_a_clock_that_ntp_keeps_is_believed_above_it(ahead: timedelta) -> None:
    kept = Reading(system=FLOOR + ahead, elapsed=timedelta(), is_synchronised=True)
    assert moment(started(FLOOR, kept), kept).source is TimeSource.SYSTEM


@pytest.mark.parametrize(
    ("belief", "system"),
    [(started(FLOOR, reading(EPOCH)), EPOCH), (signed(), FLOOR + 2 * YEAR), (working(), FLOOR + YEAR)],
    ids=["below the floor", "against a signed time", "against a good clock"],
)
def test_a_clock_that_ntp_keeps_is_not_believed_against_what_is_known(
    belief: Belief, system: datetime
) -> None:
    kept = Reading(system=system, elapsed=timedelta(), is_synchronised=True)
    assert moment(belief, kept).source is not TimeSource.SYSTEM


def test_a_clock_that_jumped_and_came_back_is_believed_again() -> None:
    belief = working()
    jumped = looked(belief, reading(belief.good + YEAR, LATER))
    assert jumped == belief
    assert moment(jumped, reading(belief.good + LATER, LATER)).source is TimeSource.SYSTEM


def test_a_clock_that_creeps_is_held_against_the_signed_time_and_not_against_itself() -> None:
    belief = signed()
    for step in range(1, 20):
        belief = looked(belief, reading(belief.good + step * SLACK, timedelta(seconds=step)))
    assert (
        moment(belief, reading(belief.good + 20 * SLACK, timedelta(seconds=20))).source is TimeSource.SIGNED
    )


def test_a_signed_time_below_the_floor_is_refused() -> None:
    with pytest.raises(UntrustedTimeError, match="below the floor"):
        heard(started(FLOOR, reading(EPOCH)), FLOOR - timedelta(seconds=1), reading(EPOCH))


def test_an_older_signed_time_is_refused_after_a_newer_one() -> None:
    belief = signed()
    with pytest.raises(UntrustedTimeError):
        heard(belief, belief.good - timedelta(seconds=1), reading(EPOCH, LATER))


def test_a_newer_certificate_raises_what_is_believed() -> None:
    belief = raised(started(FLOOR, reading(EPOCH)), FLOOR + YEAR, reading(EPOCH))
    assert moment(belief, reading(EPOCH, LATER)).now == FLOOR + YEAR + LATER


def test_a_certificate_of_the_past_changes_nothing() -> None:
    belief = signed()
    assert raised(belief, FLOOR - YEAR, reading(EPOCH)) == belief


def test_a_certificate_between_floor_and_signed_time_leaves_the_signed_time() -> None:
    belief = signed()
    after = raised(belief, belief.good, reading(EPOCH, LATER))
    assert (after.good, after.source) == (belief.good, TimeSource.SIGNED)


def test_where_only_a_floor_is_known_a_certificate_may_begin_later_but_not_have_ended() -> None:
    at_least = Moment(now=FLOOR, source=TimeSource.FLOOR, since=FLOOR, floor=FLOOR)
    assert at_least.covers(FLOOR + YEAR, FLOOR + 2 * YEAR)
    assert not at_least.covers(FLOOR - 2 * YEAR, FLOOR - YEAR)


@pytest.mark.parametrize("source", [source for source in TimeSource if source is not TimeSource.FLOOR])
def test_where_the_time_is_known_both_dates_of_a_certificate_count(source: TimeSource) -> None:
    now = Moment(now=FLOOR, source=source, since=FLOOR, floor=FLOOR)
    assert now.covers(FLOOR, FLOOR)
    assert not now.covers(FLOOR + YEAR, FLOOR + 2 * YEAR)
    assert not now.covers(FLOOR - 2 * YEAR, FLOOR - YEAR)


BOUNDS = (datetime(1970, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 - hypothesis adds the zone
TIMES = st.datetimes(*BOUNDS, timezones=st.just(UTC))
STEPS = st.timedeltas(timedelta(), timedelta(days=400))
ACTS = st.lists(st.tuples(st.sampled_from(("look", "hear", "raise")), TIMES, TIMES, STEPS), max_size=30)


@given(TIMES, ACTS)
def test_no_sequence_of_clocks_and_times_brings_it_below_its_floor_or_lowers_that(
    first: datetime, acts: list[tuple[str, datetime, datetime, timedelta]]
) -> None:
    belief, elapsed = started(RELEASED, reading(first)), timedelta()
    for act, told, system, step in acts:
        elapsed += step
        now, before = reading(system, elapsed), belief
        match act:
            case "hear" if told >= belief.floor:
                belief = heard(belief, told, now)
            case "raise":
                belief = raised(belief, told, now)
            case _:
                belief = looked(belief, now)
        assert belief.floor >= before.floor >= RELEASED
        assert moment(belief, now).now >= belief.floor


@given(TIMES, STEPS)
def test_no_system_clock_moves_it_further_than_a_leap_where_nothing_was_signed(
    system: datetime, step: timedelta
) -> None:
    belief = started(FLOOR, reading(EPOCH))
    found = moment(belief, reading(system, step))
    assert abs(found.now - (FLOOR + step)) <= LEAP
