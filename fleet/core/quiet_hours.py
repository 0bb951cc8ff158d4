"""When people are left alone: a quiet time is two moments in UTC, found from the clock on the wall. Pure.

An hour that a change of clocks repeats or leaves out moves an end by that hour, and never makes a quiet time
end twice, or not at all.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from fleet.core.matters import Severity
from fleet.core.notification_rule import QuietHours
from fleet.core.station_rules import Shift

_MOST_IN_A_ROW = 64
"""Quiet times that follow one another; beyond it the rules leave nobody awake, and somebody is told all the
same."""


def told_at(quiet: QuietHours, severity: Severity, now: datetime) -> datetime:
    """Return the first moment, from `now` on, at which something of a severity may be told."""
    if severity >= quiet.unless:
        return now
    return quiet_until(quiet.shifts, now)


def quiet_until(shifts: Iterable[Shift], now: datetime) -> datetime:
    """Return the first moment, from `now` on, that is in no quiet time."""
    moment, times = now, tuple(shifts)
    for _ in range(_MOST_IN_A_ROW):
        ends = [end for each in times for begin, end in _around(each, moment) if begin <= moment < end]
        if not ends:
            return moment
        moment = max(ends)
    return moment


def _around(shift: Shift, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the quiet times that can hold a moment: those that begin on its day or the one before."""
    zone = ZoneInfo(shift.zone)
    today = moment.astimezone(zone).date()
    for day in (today - timedelta(days=1), today):
        if day.weekday() in shift.days:
            last = day if shift.begins < shift.ends else day + timedelta(days=1)
            yield _moment(day, shift.begins, zone), _moment(last, shift.ends, zone)


def _moment(day: date, at: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, at, tzinfo=zone).astimezone(UTC)
