"""Times in queries: `expires<30d`, `seen>7d`, `enrolled>=2026-01-31`. All have whole seconds."""

import re
from datetime import UTC, datetime, timedelta

from fleet.core.query import Bound, TimeTerm
from fleet.core.query_fields import Field, FieldKind

NEVER = "never"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_LONGEST = timedelta(days=36_500)
_SECOND = timedelta(seconds=1)
_EARLIEST, _LATEST = 1900, 9000
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def time_term(field: Field, operator: str, value: str) -> TimeTerm:
    """Return a term of a time.

    A duration counts from now on where the field lies ahead, and back from now where it is past: `seen>7d` is
    more than seven days ago. A day is compared as a whole.

    Raises:
        ValueError: it is no time, or cannot be compared so.
    """
    if match := _DURATION.fullmatch(value):
        return _by_duration(field, operator, _duration(match))
    begins, ends = _span(value)
    match operator:
        case "=":
            return TimeTerm(field=field.name, since=begins, until=ends)
        case "<":
            return TimeTerm(field=field.name, until=begins)
        case "<=":
            return TimeTerm(field=field.name, until=ends)
        case ">":
            return TimeTerm(field=field.name, since=ends)
        case ">=":
            return TimeTerm(field=field.name, since=begins)
        case _:
            raise ValueError(f"a time does not compare by {operator}")


def _by_duration(field: Field, operator: str, duration: timedelta) -> TimeTerm:
    if operator not in _TURNED:
        raise ValueError(f"a duration does not compare by {operator}, but by < <= > >=")
    away: Bound
    away, just_after = duration, duration + _SECOND
    if field.kind is FieldKind.AGO:
        # What is longer ago was earlier.
        operator, away, just_after = _TURNED[operator], -duration, _SECOND - duration
    match operator:
        case "<":
            return TimeTerm(field=field.name, until=away)
        case "<=":
            return TimeTerm(field=field.name, until=just_after)
        case ">":
            return TimeTerm(field=field.name, since=just_after)
        case _:
            return TimeTerm(field=field.name, since=away)


def _duration(match: re.Match[str]) -> timedelta:
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"{match[0]} is longer than {_LONGEST.days}d")
    return timedelta(seconds=seconds)


def _span(value: str) -> tuple[datetime, datetime]:
    """Return the first second that a day or a time means, and the first one after it."""
    if _DAY.fullmatch(value):
        begins, long = datetime.fromisoformat(value), timedelta(days=1)
    elif _MOMENT.fullmatch(value):
        begins, long = datetime.fromisoformat(value.removesuffix("Z")), _SECOND
    else:
        raise ValueError(
            f"{value} is no time: a duration such as 30d (s m h d w), a day, a time in UTC, or {NEVER}"
        )
    if not _EARLIEST <= begins.year < _LATEST:
        raise ValueError(f"{value} lies too far away")
    return begins.replace(tzinfo=UTC), begins.replace(tzinfo=UTC) + long
