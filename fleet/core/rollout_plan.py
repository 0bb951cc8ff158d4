"""What a rollout is to do: the plan, who belongs to it, and when it would end if nothing fails.

Who is in a percentage depends on nothing but names, so that the same plan selects the same devices again, and
a larger percentage holds the smaller one.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from device_agent.wire.configuration import AgentConfiguration
from device_agent.wire.identity import Identity
from fleet.core.maintenance import open_time_after
from fleet.core.rollout import Gate, RolloutKind, RolloutState, Tally, WaveStanding
from fleet.core.station_rules import Shift

_CONTEXT = b"fleet-rollout-v1\0"
_PLACE_DIGITS = 16
_PLACES = 1 << 4 * _PLACE_DIGITS


class OnHalt(StrEnum):
    """What a gate that halts a rollout does beside."""

    STOP = "stop"
    """Nothing: an operator looks."""
    ROLL_BACK = "roll-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """So many devices."""

    devices: int

    def __str__(self) -> str:
        return str(self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percent:
    """A part of all devices of the rollout, rounded up."""

    percent: float

    def __str__(self) -> str:
        return f"{self.percent:g}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """All who are in no wave before."""

    def __str__(self) -> str:
        return "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The devices of the rollout that a query finds."""

    query: str

    def __str__(self) -> str:
        return self.query


WaveSize: TypeAlias = Count | Percent | Rest | Matching


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Devices that are told together, and judged together."""

    name: str
    size: WaveSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A rollout as it was written."""

    name: str
    kind: RolloutKind
    select: str
    """In the query language of devices."""
    percentage: float = 100.0
    """Of what `select` finds."""
    salt: str = ""
    """Another one draws other devices into percentages and counts."""
    target: str = ""
    """The profile; the issuing CA as `DOMAIN/NAME`; the realm of the root. Empty for `rekey`."""
    settings: AgentConfiguration = field(default_factory=AgentConfiguration)
    """Of a rollout of configuration."""
    waves: tuple[Wave, ...]
    """The pilot first."""
    gate: Gate = field(default_factory=Gate)
    rate_per_minute: int = 60
    windows: tuple[Shift, ...] = ()
    ends: datetime | None = None
    """By then it must be done."""
    on_halt: OnHalt = OnHalt.STOP
    note: str = ""

    @property
    def domain(self) -> str:
        """The domain of the target; empty where it has none."""
        return self.target.partition("/")[0]


def place_of(identity: Identity, salt: str) -> str:
    """Return a device's place among all, 16 hex digits of SHA-256 over salt and name."""
    named = _CONTEXT + salt.encode() + b"\0" + identity.name.encode()
    return hashlib.sha256(named).hexdigest()[:_PLACE_DIGITS]


def is_drawn(place: str, percentage: float) -> bool:
    """Tell whether a place lies in the first part of all places."""
    return int(place, 16) < percentage / 100 * _PLACES


def wave_sizes(waves: Sequence[Wave], *, whole: int, left: int) -> tuple[int, ...]:
    """Return how many devices each wave takes that is no query, of those that queries have left.

    Percentages are of all devices of the rollout.
    """
    found = []
    for wave in waves:
        match wave.size:
            case Count(devices=devices):
                size = min(devices, left)
            case Percent(percent=percent):
                size = min(math.ceil(whole * percent / 100), left)
            case Rest():
                size = left
            case Matching():
                continue
        found.append(size)
        left -= size
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """When a rollout would come to its end, if no gate halts it."""

    soonest: datetime
    """If all answer at once."""
    latest: datetime
    """If those who answer take all the time that they have."""


def course_of(plan: Plan, waves: Sequence[Tally], *, since: datetime) -> Course | None:
    """Return when what is left of a rollout would end; None where no window is long enough in a year."""
    soonest = latest = since
    for tally in waves:
        if not tally.waiting and not tally.told and not tally.began:
            continue
        pace = timedelta(minutes=tally.waiting / plan.rate_per_minute)
        early = open_time_after(plan.windows, soonest, pace) if tally.waiting else soonest
        late = open_time_after(plan.windows, latest, pace) if tally.waiting else latest
        if early is None or late is None:
            return None
        soonest, latest = early + plan.gate.soak, late + plan.gate.patience + plan.gate.soak
    return Course(soonest=soonest, latest=latest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout on record."""

    number: int
    plan: Plan
    state: RolloutState
    version: int
    target: str
    """What the plan's target was found to be: an issuing CA's key identifier, a version or a number."""
    wave: int
    """The one that is under way, from 1; 0 before the start."""
    planned_by: str
    planned_at: datetime
    started_at: datetime | None
    changed_by: str
    changed_at: datetime
    reason: str
    """Why it stands where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutWave:
    """A wave on record."""

    number: int
    name: str
    standing: WaveStanding
    began_at: datetime | None = None
    passed_at: datetime | None = None
