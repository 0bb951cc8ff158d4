"""Maintenance windows: when something may be begun, in hours of a time zone, over every change of its clocks.

A window is written as a station's shift is. Without windows, always.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from fleet.core.station_rules import Shift

LOOKED_AHEAD = timedelta(days=400)
"""No further than this is looked for open time: a plan of a year or more is none."""

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)


def is_open(windows: Sequence[Shift], at: datetime) -> bool:
    """Tell whether a time lies in a window."""
    return not windows or any(window.covers(at) for window in windows)


def spans(windows: Sequence[Shift], since: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield when it is open from a time on, in order, in UTC: each from its begin up to its end.

    A span ends with a day in UTC at the latest: the next one goes on there.
    """
    begin = datetime.combine(since.astimezone(UTC).date(), time(), UTC)
    for days in range(LOOKED_AHEAD.days):
        midnight = begin + days * _DAY
        following = midnight + _DAY
        # Zones are at most 14 hours ahead or behind: their days of three dates cover this one.
        around = [midnight.date() + apart * _DAY for apart in (-1, 0, 1)]
        found = {edge for window in windows for day in around for edge in _edges(window, day)}
        edges = sorted({midnight, following, *(edge for edge in found if midnight < edge < following)})
        for begins, ends in pairwise(edges):
            if ends > since and is_open(windows, begins):
                yield max(begins, since), ends


def open_time_after(windows: Sequence[Shift], since: datetime, needed: timedelta) -> datetime | None:
    """Return when so much open time has passed since a time; None where that is too far to look."""
    if not windows:
        return since + needed
    for begins, ends in spans(windows, since):
        if needed <= ends - begins:
            return begins + needed
        needed -= ends - begins
    return None


def _edges(window: Shift, day: date) -> Iterator[datetime]:
    """Yield the times of a day of the window's zone, in UTC, at which it could open or close.

    A time that clocks skip or repeat has two meanings (PEP 495): both are looked at, and so is the change
    itself, where a window can open or close with no hand on its mark.
    """
    zone = ZoneInfo(window.zone)
    midnight = datetime.combine(day, time(), zone)
    for at in (time(), window.begins, window.ends):
        for fold in (0, 1):
            yield datetime.combine(day, at.replace(fold=fold), zone).astimezone(UTC)
    before, after = midnight.astimezone(UTC), (midnight + _DAY).astimezone(UTC)
    if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
        yield _change(zone, before, after)


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the minute in which a zone's offset changes between two times."""
    while after - before > _MINUTE:
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == before.astimezone(zone).utcoffset():
            before = middle
        else:
            after = middle
    return after.replace(second=0, microsecond=0)
