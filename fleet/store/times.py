"""Times as the database holds them: RFC 3339 text in UTC, whole seconds, so that text order is time order."""

from datetime import UTC, datetime

from device_agent.wire.fields import time_text
from fleet.errors import StoreError
from fleet.ports import Value


def text(moment: datetime) -> str:
    """Return a time as a column holds it; parts of a second are cut off."""
    return time_text(moment)


def optional_text(moment: datetime | None) -> str | None:
    """Return a time as a column holds it, or None."""
    return None if moment is None else time_text(moment)


def moment(value: Value) -> datetime:
    """Return the time that a column holds.

    Raises:
        StoreError: it holds none.
    """
    if isinstance(value, str) and value.endswith("Z"):
        try:
            return datetime.fromisoformat(value[:-1]).replace(tzinfo=UTC)
        except ValueError:
            pass
    raise StoreError("the store holds a time that is none", hint="fleet audit verify")


def optional_moment(value: Value) -> datetime | None:
    """Return the time that a column holds, or None."""
    return None if value is None else moment(value)
