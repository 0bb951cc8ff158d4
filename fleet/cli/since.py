"""Times on the command line: as RFC 3339 has them, or so long ago."""

import re
from datetime import UTC, datetime, timedelta

from device_agent.wire.fields import time_text
from fleet.errors import UsageError

_AGO = re.compile(r"([1-9][0-9]{0,4})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str | None, *, now: datetime | None = None) -> str | None:
    """Return a time as the API takes it.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    if (ago := _AGO.fullmatch(text)) is not None:
        return time_text((now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text} is no time", hint="such as 2026-05-01T12:00:00Z, or 36h") from error
    if found.tzinfo is None:
        raise UsageError(f"{text} has no time zone", hint=f"write it like {text}Z")
    return time_text(found.astimezone(UTC))
