"""Maintenance windows over every change of clocks: what is open is open in UTC, and time adds up."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.maintenance import is_open, open_time_after, spans
from fleet.core.station_rules import Shift

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")
CHANGES = (
    datetime(2026, 3, 28, 20, tzinfo=UTC),  # Europe goes an hour forward
    datetime(2026, 10, 24, 20, tzinfo=UTC),  # and back
    datetime(2026, 11, 1, 1, tzinfo=UTC),  # New York goes back
    datetime(2026, 4, 4, 10, tzinfo=UTC),  # Lord Howe goes half an hour back
)
clocks = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from((0, 15, 30)))
windows = st.builds(
    lambda days, begins, ends, zone: Shift.parse(f"{days} {begins}-{ends} {zone}"),
    st.sampled_from(("mon-sun", "sat-sun", "sun", "mon-fri")),
    clocks,
    clocks,
    st.sampled_from(ZONES),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(windows, min_size=1, max_size=3), st.sampled_from(CHANGES))
def test_a_time_is_open_just_where_it_lies_in_a_span(found: list[Shift], since: datetime) -> None:
    until = since + timedelta(days=2)
    spanned = []
    for begins, ends in spans(found, since):
        if begins > until:
            break
        spanned.append((begins, ends))
    assert all(left[1] <= right[0] for left, right in pairwise(spanned))
    at = since
    while at < until:
        assert is_open(found, at) == any(begins <= at < ends for begins, ends in spanned), at
        at += timedelta(minutes=15)


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-03-29", 2), ("2026-10-25", 4), ("2026-06-07", 3)],
    ids=["forward", "back", "none"],
)
def test_a_night_in_which_clocks_change_is_as_long_as_it_is(day: str, hours: int) -> None:
    window = Shift.parse("sun 01:00-04:00 Europe/Berlin")
    since = datetime.fromisoformat(f"{day}T00:00:00+00:00") - timedelta(hours=3)
    begins, *_, ends = [edge for span in list(_first(window, since, 3)) for edge in span]
    assert ends - begins == timedelta(hours=hours)


def _first(window: Shift, since: datetime, count: int) -> list[tuple[datetime, datetime]]:
    """Return the spans of one night."""
    found = []
    for span in spans((window,), since):
        if span[0] > since + timedelta(days=1) or len(found) == count:
            break
        found.append(span)
    return found


def test_open_time_adds_up_over_nights_and_never_comes_where_there_is_too_little() -> None:
    window = (Shift.parse("mon-sun 02:00-03:00 UTC"),)
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert open_time_after(window, noon, timedelta(minutes=90)) == datetime(2026, 6, 3, 2, 30, tzinfo=UTC)
    assert open_time_after((), noon, timedelta(minutes=90)) == noon + timedelta(minutes=90)
    assert open_time_after(window, noon, timedelta(days=30)) is None
