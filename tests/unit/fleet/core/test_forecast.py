"""The sums of the forecast: nothing is counted twice, nothing is lost."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.forecast import HORIZONS, DarkDay, Ends, Outage, PlannedHour, dark_days, lines, weeks

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ends = st.builds(
    Ends,
    kind=st.sampled_from(["device prod", "server", "CA"]),
    day=st.dates(min_value=(NOW - timedelta(days=30)).date(), max_value=(NOW + timedelta(days=200)).date()),
    count=st.integers(1, 1000),
)


@given(st.lists(ends))
def test_each_horizon_holds_the_one_before_it(found: list[Ends]) -> None:
    for line in lines(found, now=NOW):
        assert list(line.within) == sorted(line.within)
        mine = [one for one in found if one.kind == line.kind]
        assert line.next_day == min(one.day for one in mine)
        last = (NOW + HORIZONS[-1]).date()
        assert line.within[-1] == sum(one.count for one in mine if one.day <= last)


hours = st.builds(
    PlannedHour,
    hour=st.datetimes(timezones=st.just(UTC)).filter(lambda one: one.year < 9000),
    count=st.integers(1, 99),
)


@given(st.lists(ends), st.lists(hours), st.integers(1, 60))
def test_every_week_is_told_and_nothing_in_them_is_lost(
    found: list[Ends], planned: list[PlannedHour], count: int
) -> None:
    told = weeks(found, planned=planned, now=NOW, count=count)
    assert [week.begins for week in told] == [
        told[0].begins + timedelta(weeks=number) for number in range(count)
    ]
    assert told[0].begins <= NOW.date() < told[0].begins + timedelta(weeks=1)
    end = told[0].begins + timedelta(weeks=count)
    assert sum(n for week in told for _, n in week.ends) == sum(one.count for one in found if one.day < end)
    assert sum(week.renewals for week in told) == sum(one.count for one in planned if one.hour.date() < end)
    assert all(week.busiest_hour <= week.renewals for week in told)


@given(dark=st.lists(ends))
def test_all_who_go_dark_are_counted_once(dark: list[Ends]) -> None:
    outage = Outage(begins=NOW, ends=NOW + timedelta(days=14), grace=timedelta(days=30))
    days = dark_days(outage, dark=dark, lost=dark)
    assert sum(day.dark for day in days) == sum(one.count for one in dark)
    assert all(day.day >= NOW.date() and day.dark == day.lost for day in days)
    assert [day.day for day in days] == sorted({day.day for day in days})


@given(length=st.integers(1, 1000), grace=st.integers(0, 1000))
def test_who_is_lost_is_dark(length: int, grace: int) -> None:
    outage = Outage(begins=NOW, ends=NOW + timedelta(days=length), grace=timedelta(days=grace))
    assert outage.lost_before <= outage.dark_before


def test_what_had_ended_before_goes_dark_at_once() -> None:
    outage = Outage(begins=NOW, ends=NOW + timedelta(days=2), grace=timedelta())
    old = Ends(kind="device prod", day=(NOW - timedelta(days=9)).date(), count=2)
    assert dark_days(outage, dark=[old], lost=[]) == (DarkDay(day=NOW.date(), dark=2, lost=0),)
