"""Quiet hours: whose end comes in every night of the year, whatever the clocks on the walls do."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.matters import Severity
from fleet.core.notification_rule import QuietHours
from fleet.core.quiet_hours import quiet_until, told_at
from fleet.core.station_rules import Shift

NIGHT = Shift.parse("mon-sun 22:00-07:00 Europe/Berlin")
BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ("2030-01-15T12:00", "2030-01-15T12:00"),
        ("2030-01-15T20:59", "2030-01-15T20:59"),
        ("2030-01-15T21:00", "2030-01-16T06:00"),
        ("2030-01-16T05:59", "2030-01-16T06:00"),
        ("2030-01-16T06:00", "2030-01-16T06:00"),
        # Clocks go forward on 31 March 2030 at 01:00 UTC: the night is an hour shorter.
        ("2030-03-30T21:30", "2030-03-31T05:00"),
        # They go back on 27 October 2030 at 01:00 UTC.
        ("2030-10-26T20:30", "2030-10-27T06:00"),
    ],
)
def test_a_night_in_berlin_ends_at_seven_there(now: str, told: str) -> None:
    assert quiet_until((NIGHT,), utc(now)) == utc(told)


def test_an_end_that_a_change_of_clocks_leaves_out_comes_all_the_same() -> None:
    left_out = Shift.parse("mon-sun 22:00-02:30 Europe/Berlin")
    ends = quiet_until((left_out,), utc("2030-03-30T23:00"))
    assert ends == utc("2030-03-31T01:30")  # where the clock jumps from 02:00 to 03:00


def test_an_end_that_a_change_of_clocks_repeats_comes_once() -> None:
    repeated = Shift.parse("mon-sun 22:00-02:30 Europe/Berlin")
    ends = quiet_until((repeated,), utc("2030-10-26T23:00"))
    assert ends == utc("2030-10-27T00:30")
    assert quiet_until((repeated,), ends + timedelta(minutes=59)) == ends + timedelta(minutes=59)


def test_a_weekend_follows_a_night_without_a_gap() -> None:
    times = [Shift.parse(f"{text} Europe/Berlin") for text in ("mon-fri 20:00-07:00", "sat,sun 07:00-07:00")]
    friday = datetime(2030, 1, 18, 23, 0, tzinfo=BERLIN).astimezone(UTC)
    assert quiet_until(times, friday) == datetime(2030, 1, 21, 7, 0, tzinfo=BERLIN).astimezone(UTC)


def test_what_is_grave_enough_is_told_at_night() -> None:
    quiet = QuietHours(shifts=(NIGHT,), unless=Severity.WARNING)
    midnight = utc("2030-01-15T23:00")
    assert told_at(quiet, Severity.CRITICAL, midnight) == midnight
    assert told_at(quiet, Severity.WARNING, midnight) == midnight
    assert told_at(quiet, Severity.INFO, midnight) == utc("2030-01-16T06:00")


def test_rules_that_leave_nobody_awake_tell_somebody_all_the_same() -> None:
    always = Shift.parse("mon-sun 00:00-00:00 Europe/Berlin")
    assert quiet_until((always,), utc("2030-01-15T23:00")) < utc("2030-04-15T23:00")


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "UTC")
SHIFTS = st.builds(
    Shift,
    days=st.sets(st.integers(0, 6), min_size=1, max_size=6).map(frozenset),
    begins=st.times(timezones=st.none()).map(lambda at: time(at.hour, at.minute)),
    ends=st.times(timezones=st.none()).map(lambda at: time(at.hour, at.minute)),
    zone=st.sampled_from(ZONES),
)
MOMENTS = st.integers(0, 4 * 365 * 24 * 60).map(lambda each: utc("2028-01-01") + timedelta(minutes=each))


@given(shift=SHIFTS, now=MOMENTS)
def test_a_quiet_time_ends_within_its_day_and_what_comes_out_of_it_is_not_quiet(
    shift: Shift, now: datetime
) -> None:
    told = quiet_until((shift,), now)

    assert now <= told <= now + timedelta(days=8)
    assert quiet_until((shift,), told) == told


@given(shift=SHIFTS, now=MOMENTS)
def test_but_for_changes_of_clocks_it_is_quiet_when_the_shift_says_so(shift: Shift, now: datetime) -> None:
    zone = ZoneInfo(shift.zone)
    offsets = {(now + timedelta(days=each)).astimezone(zone).utcoffset() for each in (-2, -1, 0, 1, 2)}
    if len(offsets) == 1:
        assert (quiet_until((shift,), now) > now) is shift.covers(now)
