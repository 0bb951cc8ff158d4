"""What logs of other servers tell of refused certificates: one finding for each refusal.

Pure. Lines hold what strangers sent: no line is believed about more than its server itself wrote into it,
and what is no refusal is passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import Protocol

from fleet.core.causes import Cause

LONGEST_LINE = 8192
"""Characters; what is beyond is not looked at."""
_LATE = timedelta(minutes=5)
_OLDEST = timedelta(days=3650)


class Product(StrEnum):
    """Whose log it is."""

    MOSQUITTO = "mosquitto"
    APACHE = "apache"
    NGINX = "nginx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A refusal. `at` is as the line says it: without a zone it is the time of that machine."""

    cause: Cause
    at: datetime | None = None
    address: str = ""
    serial: str = ""
    """Hex, lower case, of the certificate that was shown: a stranger's word where its CA is not known."""
    subject: str = ""
    """As the server wrote it; a stranger's word."""


class Reader(Protocol):
    """Reads one log, line by line; what belongs together may stand in several lines."""

    def feed(self, line: str) -> Finding | None:
        """Return the refusal that this line completes, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """Where the clock of a log stands, and what time it is now."""

    now: datetime
    """Aware."""
    east_of_utc: timedelta = timedelta()


def time_of(finding: Finding, zone: Zone) -> datetime:
    """Return when it happened, in UTC: never later than now; now where the line says nothing to believe."""
    at = finding.at
    if at is None:
        return zone.now
    try:
        found = (at - zone.east_of_utc).replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        return zone.now
    is_believed = zone.now - _OLDEST <= found <= zone.now + _LATE
    return min(found, zone.now) if is_believed else zone.now


def shown_address(text: str) -> str:
    """Return an IP address as it is written, without its port; the empty text for anything else."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def shown_serial(text: str) -> str:
    """Return a serial number as 32 lower-case hex digits or more; the empty text for what is none."""
    digits = text.strip().lower()
    if not digits or len(digits) > 40 or not set(digits) <= set("0123456789abcdef"):
        return ""
    return digits.zfill(32) if len(digits) <= 32 else digits.zfill(40)


def moment(text: str, form: str) -> datetime | None:
    """Return the time that a text tells in a form of strptime(3), or None."""
    try:
        return datetime.strptime(text, form)  # noqa: DTZ007 - its zone is that of the log
    except ValueError:
        return None


def number_of(members: Mapping[str, object], name: str) -> int:
    """Return a member that is a number, 0 where it is none."""
    value = members.get(name)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
