"""When the server wants each certificate renewed: spread so that the load is flat, and a matter of record.

RFC 9773 is the model: whoever issues names the window, for it alone sees the whole fleet. Of a few moments
that a serial gives by itself, the one in the emptiest hour is taken: no request looks at more than those.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from device_agent.wire.pace import latest

HOUR = timedelta(hours=1)
CHOICES = 3
"""Moments that a serial gives: more than two flatten little more (Mitzenmacher, The power of two choices)."""
_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From when to when a certificate may be told to renew in its regular time."""

    opens: datetime
    """In whole seconds."""
    closes: datetime

    def at(self, part: float) -> datetime:
        """Return the moment after this part of it, from 0 up to 1; fractions of a second are cut."""
        return self.opens + timedelta(seconds=int((self.closes - self.opens).total_seconds() * part))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggested:
    """What RFC 9773 4.2 calls a suggested window: from when to when to renew."""

    start: datetime
    end: datetime


def choices(window: Window, serial: str) -> tuple[datetime, ...]:
    """Return the moments that a serial gives by its random bits, the last ones first."""
    opens, length = window.opens, (window.closes - window.opens).total_seconds() / 2 ** (4 * _DIGITS)
    ends = range(len(serial), len(serial) - CHOICES * _DIGITS, -_DIGITS)
    return tuple(
        opens + timedelta(seconds=int(int(serial[end - _DIGITS : end], 16) * length)) for end in ends
    )


def emptiest(moments: tuple[datetime, ...], planned: Mapping[datetime, int]) -> datetime:
    """Return the moment in whose hour the fewest are planned; of equal ones the first."""
    return min(moments, key=lambda moment: planned.get(hour_of(moment), 0))


def hour_of(moment: datetime) -> datetime:
    """Return the hour that a moment is in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def suggested(renew_after: datetime, *, not_before: datetime, not_after: datetime) -> Suggested:
    """Return the window around a moment: an hour, or less where a device could not wait so long."""
    start = min(renew_after, latest(not_before, not_after))
    return Suggested(start=start, end=max(start + timedelta(seconds=1), min(start + HOUR, not_after)))
