"""What a station may do: which ids it gives in which batch, how many, how fast, and when.

Rules are written as people say them (`spring=spring-0001..spring-5000`, `mon-fri 06:00-14:00 Europe/Berlin`),
and read here alone. The server holds every station to them, whatever software runs there.
"""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from device_agent.wire.identity import parse_device_id, parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import BadInputError

MOST_UNITS = 10_000_000
MOST_A_MINUTE = 100_000
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RANGE = re.compile(r"([A-Za-z0-9_:-]{0,63}?)([0-9]{1,9})\.\.([A-Za-z0-9_:-]{0,63}?)([0-9]{1,9})", re.ASCII)
_SHIFT = re.compile(
    r"([a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*) ([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2}) (\S{1,64})"
)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialRange:
    """Device ids that are a prefix and a number of `width` digits, from `first` to `last`."""

    prefix: str
    first: int
    last: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `spring-0001..spring-5000`. Raises `BadInputError`."""
        found = _RANGE.fullmatch(text)
        if found is None or found[1] != found[3] or len(found[2]) != len(found[4]):
            raise BadInputError(
                f"{text!a} is no range of device ids", hint="such as spring-0001..spring-5000"
            )
        made = cls(prefix=found[1], first=int(found[2]), last=int(found[4]), width=len(found[2]))
        try:
            parse_device_id(f"{found[1]}{found[2]}")
        except MalformedMessageError as error:
            raise BadInputError(f"{text!a} names no device ids", hint="fleet station add --help") from error
        if made.last < made.first:
            raise BadInputError(f"{text!a} ends before it begins", hint="such as spring-0001..spring-5000")
        return made

    def __str__(self) -> str:
        first, last = (f"{self.prefix}{number:0{self.width}d}" for number in (self.first, self.last))
        return f"{first}..{last}"

    def covers(self, device_id: str) -> bool:
        """Tell whether a device id is in the range."""
        number = device_id.removeprefix(self.prefix)
        is_number = len(number) == self.width and number.isascii() and number.isdecimal()
        return device_id.startswith(self.prefix) and is_number and self.first <= int(number) <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """When a station works: days of the week (0 is Monday), from `begins` up to `ends`, in a time zone.

    A shift that ends before it begins goes over midnight, and belongs to the day on which it begins.
    """

    days: frozenset[int]
    begins: time
    ends: time
    zone: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `mon-fri 06:00-14:00 Europe/Berlin`. Raises `BadInputError`."""
        found = _SHIFT.fullmatch(text)
        try:
            if found is None or not _ZONE.fullmatch(found[4]):
                raise ValueError(text)
            ZoneInfo(found[4])
            shift = cls(
                days=_days(found[1]),
                begins=time.fromisoformat(found[2]),
                ends=time.fromisoformat(found[3]),
                zone=found[4],
            )
        except (ValueError, KeyError, OSError) as error:
            raise BadInputError(
                f"{text!a} is no shift, or its time zone is not known here",
                hint="such as 'mon-fri 06:00-14:00 Europe/Berlin'",
            ) from error
        return shift

    def __str__(self) -> str:
        days = ",".join(_DAYS[day] for day in sorted(self.days))
        return f"{days} {self.begins:%H:%M}-{self.ends:%H:%M} {self.zone}"

    def covers(self, at: datetime) -> bool:
        """Tell whether a time, with its zone, is in the shift."""
        local = at.astimezone(ZoneInfo(self.zone))
        now, today = local.time().replace(tzinfo=None), local.weekday()
        if self.begins < self.ends:
            return today in self.days and self.begins <= now < self.ends
        yesterday = (local - timedelta(days=1)).weekday()
        return (today in self.days and now >= self.begins) or (yesterday in self.days and now < self.ends)


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRule:
    """A batch that a station may enroll units of; without ranges, any id; without a quota, any number."""

    batch: str
    quota: int | None = None
    ranges: tuple[SerialRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRules:
    """All that limits a station beside its batches; without shifts it works at any time."""

    batches: tuple[BatchRule, ...]
    """In the order in which they were given: units that name none go to the first."""
    rate_per_minute: int | None = None
    shifts: tuple[Shift, ...] = ()

    def rule(self, batch: str) -> BatchRule | None:
        """Return what holds for a batch, or None where it is none of this station's."""
        return next((one for one in self.batches if one.batch == batch), None)

    def is_working(self, at: datetime) -> bool:
        """Tell whether a time is in a shift."""
        return not self.shifts or any(shift.covers(at) for shift in self.shifts)

    def fault_of(self, batch: str, device_id: str) -> str | None:
        """Return why a station may not give an id in a batch; None where it may."""
        rule = self.rule(batch)
        if rule is None:
            return f"batch {batch} is none of this station's"
        if rule.ranges and not any(each.covers(device_id) for each in rule.ranges):
            ranges = ", ".join(map(str, rule.ranges))
            return f"{device_id} is not among the serial numbers of batch {batch}: {ranges}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTexts:
    """The same rules as somebody wrote them."""

    batches: tuple[str, ...]
    quotas: tuple[str, ...] = ()
    """`<batch>=<count>`."""
    serials: tuple[str, ...] = ()
    """`<batch>=<first>..<last>`."""
    shifts: tuple[str, ...] = ()
    rate_per_minute: int | None = None

    def read(self) -> StationRules:
        """Return the rules.

        Raises:
            BadInputError: one of them is none, or is of a batch that is not among them.
        """
        if not self.batches:
            raise BadInputError("a station needs a batch that it may enroll units of", hint="--batch NAME")
        names = tuple(dict.fromkeys(_batch_name(batch) for batch in self.batches))
        quotas = {batch: _count(text) for batch, text in _pairs(self.quotas, names)}
        ranges = [(batch, SerialRange.parse(text)) for batch, text in _pairs(self.serials, names)]
        rate = self.rate_per_minute
        if rate is not None and not 1 <= rate <= MOST_A_MINUTE:
            raise BadInputError(f"a rate is 1 to {MOST_A_MINUTE} units a minute", hint="--rate 60")
        return StationRules(
            batches=tuple(
                BatchRule(
                    batch=name,
                    quota=quotas.get(name),
                    ranges=tuple(each for batch, each in ranges if batch == name),
                )
                for name in names
            ),
            rate_per_minute=rate,
            shifts=tuple(Shift.parse(text) for text in self.shifts),
        )


def texts_of(rules: StationRules) -> RuleTexts:
    """Return rules as they are written."""
    return RuleTexts(
        batches=tuple(one.batch for one in rules.batches),
        quotas=tuple(f"{one.batch}={one.quota}" for one in rules.batches if one.quota is not None),
        serials=tuple(f"{one.batch}={each}" for one in rules.batches for each in one.ranges),
        shifts=tuple(map(str, rules.shifts)),
        rate_per_minute=rules.rate_per_minute,
    )


def _batch_name(text: str) -> str:
    try:
        return parse_domain(text)
    except MalformedMessageError as error:
        raise BadInputError(f"batch {error}", hint="such as line3-2026-05") from error


def _pairs(texts: tuple[str, ...], batches: tuple[str, ...]) -> list[tuple[str, str]]:
    found = [text.partition("=") for text in texts]
    for batch, _, value in found:
        if batch not in batches or not value:
            raise BadInputError(
                f"{batch}={value} is for none of the batches {', '.join(batches)}", hint="such as spring=5000"
            )
    return [(batch, value) for batch, _, value in found]


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and 1 <= int(text[:12]) <= MOST_UNITS:
        return int(text)
    raise BadInputError(f"{text!a} is no count from 1 to {MOST_UNITS}", hint="such as --quota spring=5000")
