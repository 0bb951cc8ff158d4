"""A change that a fleet is led through in waves: a table for the rollout, one for each device, and the gate.

It knows no device by name: it counts. What is not in the rollout's table is refused; what a device's table
does not hold changes nothing, so that a word that comes late or twice does no harm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.errors import RefusedError


class RolloutKind(StrEnum):
    """What is changed; stored by name."""

    REKEY = "rekey"
    """Each device gets a new key and certificate."""
    PROFILE = "profile"
    """Certificates are made by another profile."""
    CA = "ca"
    """Certificates come from another issuing CA."""
    TRUST = "trust"
    """Devices take a trust bundle that a rollover of a root has prepared."""
    CONFIGURATION = "configuration"
    """Devices take settings of the agent."""


class RolloutState(StrEnum):
    """Where a rollout stands; stored by name."""

    PLANNED = "planned"
    """Saved and checked. Nobody was told."""
    RUNNING = "running"
    PAUSED = "paused"
    """Nobody more is told; who was told goes on, and is judged."""
    HALTED = "halted"
    """Stopped by a gate or an operator; nobody more is told."""
    ROLLING_BACK = "rolling-back"
    """Who was told is told to go back, where that has a meaning."""
    ROLLED_BACK = "rolled-back"
    DONE = "done"
    ABANDONED = "abandoned"
    """Given up as it stood; nothing was taken back."""


class RolloutEvent(StrEnum):
    """What operators order, and what the gates find."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    HALT = "halt"
    ROLL_BACK = "roll-back"
    ABANDON = "abandon"
    COMPLETE = "complete"
    """The last gate was passed."""
    UNDONE = "undone"
    """The last device was told to go back."""


_State, _Event = RolloutState, RolloutEvent

# fmt: off
TRANSITIONS: Mapping[tuple[RolloutState, RolloutEvent], RolloutState] = {
    (_State.PLANNED,      _Event.START):     _State.RUNNING,
    (_State.PLANNED,      _Event.ABANDON):   _State.ABANDONED,
    (_State.RUNNING,      _Event.START):     _State.RUNNING,
    (_State.RUNNING,      _Event.PAUSE):     _State.PAUSED,
    (_State.RUNNING,      _Event.RESUME):    _State.RUNNING,
    (_State.RUNNING,      _Event.HALT):      _State.HALTED,
    (_State.RUNNING,      _Event.COMPLETE):  _State.DONE,
    (_State.PAUSED,       _Event.PAUSE):     _State.PAUSED,
    (_State.PAUSED,       _Event.RESUME):    _State.RUNNING,
    (_State.PAUSED,       _Event.HALT):      _State.HALTED,
    (_State.HALTED,       _Event.RESUME):    _State.RUNNING,
    (_State.HALTED,       _Event.HALT):      _State.HALTED,
    (_State.HALTED,       _Event.ROLL_BACK): _State.ROLLING_BACK,
    (_State.HALTED,       _Event.ABANDON):   _State.ABANDONED,
    (_State.ROLLING_BACK, _Event.ROLL_BACK): _State.ROLLING_BACK,
    (_State.ROLLING_BACK, _Event.UNDONE):    _State.ROLLED_BACK,
    (_State.ROLLING_BACK, _Event.ABANDON):   _State.ABANDONED,
    (_State.ROLLED_BACK,  _Event.ROLL_BACK): _State.ROLLED_BACK,
    (_State.ROLLED_BACK,  _Event.UNDONE):    _State.ROLLED_BACK,
    (_State.DONE,         _Event.COMPLETE):  _State.DONE,
    (_State.ABANDONED,    _Event.ABANDON):   _State.ABANDONED,
}
# fmt: on

OPEN = frozenset({_State.PLANNED, _State.RUNNING, _State.PAUSED, _State.HALTED, _State.ROLLING_BACK})
"""A device is in one open rollout at a time."""

SUPERVISED = frozenset({_State.RUNNING, _State.PAUSED, _State.ROLLING_BACK})
"""Where the server has something to do by itself."""

_ORDERS = {
    _Event.START: "start",
    _Event.PAUSE: "pause",
    _Event.RESUME: "resume",
    _Event.HALT: "halt",
    _Event.ROLL_BACK: "roll-back",
    _Event.ABANDON: "abandon",
}
"""Events that are verbs of `fleet rollout`."""


class DeviceState(StrEnum):
    """Where a device stands in a rollout; stored by name."""

    WAITING = "waiting"
    """Its turn has not come."""
    TOLD = "told"
    """Its change is in force here, and it is told until it has heard."""
    UPDATED = "updated"
    """It came back with what is new."""
    FAILED = "failed"
    """It was there, and has not got it."""
    ABSENT = "absent"
    """It was not there since it was told. It holds up nobody, and counts as soon as it comes."""
    OUT = "out"
    """Out of service: retired, revoked, suspended or alarmed."""
    UNDONE = "undone"
    """Told to go back."""


class DeviceEvent(StrEnum):
    """What becomes known of a device."""

    TELL = "tell"
    ARRIVED = "arrived"
    """It uses what is new."""
    TROUBLE = "trouble"
    """It was refused, or says that it has failed, or was there all the time and has not got it."""
    SILENT = "silent"
    """Its time to answer is over, and it was not there."""
    GONE = "gone"
    UNDO = "undo"


_Device, _Heard = DeviceState, DeviceEvent

# fmt: off
DEVICE_TRANSITIONS: Mapping[tuple[DeviceState, DeviceEvent], DeviceState] = {
    (_Device.WAITING, _Heard.TELL):    _Device.TOLD,
    (_Device.WAITING, _Heard.GONE):    _Device.OUT,
    (_Device.TOLD,    _Heard.ARRIVED): _Device.UPDATED,
    (_Device.TOLD,    _Heard.TROUBLE): _Device.FAILED,
    (_Device.TOLD,    _Heard.SILENT):  _Device.ABSENT,
    (_Device.TOLD,    _Heard.GONE):    _Device.OUT,
    (_Device.TOLD,    _Heard.UNDO):    _Device.UNDONE,
    (_Device.UPDATED, _Heard.UNDO):    _Device.UNDONE,
    (_Device.FAILED,  _Heard.ARRIVED): _Device.UPDATED,
    (_Device.FAILED,  _Heard.GONE):    _Device.OUT,
    (_Device.FAILED,  _Heard.UNDO):    _Device.UNDONE,
    (_Device.ABSENT,  _Heard.ARRIVED): _Device.UPDATED,
    (_Device.ABSENT,  _Heard.TROUBLE): _Device.FAILED,
    (_Device.ABSENT,  _Heard.GONE):    _Device.OUT,
    (_Device.ABSENT,  _Heard.UNDO):    _Device.UNDONE,
    (_Device.OUT,     _Heard.UNDO):    _Device.UNDONE,
}
# fmt: on


def after(state: RolloutState, event: RolloutEvent, *, name: str) -> RolloutState:
    """Return where a rollout stands after an event.

    Raises:
        RefusedError: that cannot be done to it now.
    """
    found = TRANSITIONS.get((state, event))
    if found is None:
        ways = [verb for order, verb in _ORDERS.items() if TRANSITIONS.get((state, order), state) != state]
        raise RefusedError(
            f"the rollout {name} is {state}: it cannot {event} now",
            hint="; ".join(f"fleet rollout {verb} {name}" for verb in ways or ["status"]),
        )
    return found


def device_after(state: DeviceState, event: DeviceEvent) -> DeviceState:
    """Return where a device stands after an event; what the table does not hold changes nothing."""
    return DEVICE_TRANSITIONS.get((state, event), state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a wave has to show before the next one begins."""

    updated: float = 0.95
    """Share of the devices that were there that must come back with what is new."""
    failed: float = 0.01
    """Share of the devices that may fail; one more stops the rollout."""
    least: int = 1
    """So many must have come back, however many were away."""
    patience: timedelta = timedelta(hours=1)
    """How long a device has to come back after it was told."""
    soak: timedelta = timedelta(hours=1)
    """How long all must stay well after the last of them has answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many devices of a wave stand where."""

    waiting: int = 0
    told: int = 0
    updated: int = 0
    failed: int = 0
    absent: int = 0
    out: int = 0
    undone: int = 0

    @property
    def size(self) -> int:
        return self.there + self.absent + self.out + self.undone

    @property
    def there(self) -> int:
        """Who counts: all but those who were away, and those who are out of service."""
        return self.waiting + self.told + self.updated + self.failed

    @property
    def began(self) -> int:
        """Who was told."""
        return self.size - self.waiting

    def by_state(self) -> tuple[tuple[DeviceState, int], ...]:
        """Return the counts, each with its state."""
        return (
            (DeviceState.WAITING, self.waiting),
            (DeviceState.TOLD, self.told),
            (DeviceState.UPDATED, self.updated),
            (DeviceState.FAILED, self.failed),
            (DeviceState.ABSENT, self.absent),
            (DeviceState.OUT, self.out),
            (DeviceState.UNDONE, self.undone),
        )

    def plus(self, other: "Tally") -> "Tally":
        """Return both together."""
        return Tally(
            waiting=self.waiting + other.waiting,
            told=self.told + other.told,
            updated=self.updated + other.updated,
            failed=self.failed + other.failed,
            absent=self.absent + other.absent,
            out=self.out + other.out,
            undone=self.undone + other.undone,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveStanding:
    """One wave, as it is judged."""

    tally: Tally
    forgiven: int = 0
    """Failures that an operator has looked at, and goes on in spite of."""
    settled_at: datetime | None = None
    """When the last of its devices had answered, and enough of them were well."""


class Verdict(StrEnum):
    """What a gate says."""

    TELL = "tell"
    """Devices of this wave wait for their turn."""
    WAIT = "wait"
    """All were told, and not all have answered."""
    SETTLE = "settle"
    """All have answered, and enough are well: the soak begins."""
    SOAK = "soak"
    PASSED = "passed"
    HALT = "halt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, the rule that made it, and what it was made of, for the record."""

    verdict: Verdict
    rule: str
    reason: str


RULES: Mapping[str, str] = {
    "failures": "More devices have failed than the gate lets pass: halt.",
    "out of reach": "Even if all who have not answered yet come well, too few will: halt.",
    "more to tell": "Devices of the wave wait for their turn: tell them, at the plan's pace, in its windows.",
    "answers": "Devices were told and have neither answered nor run out of patience: wait.",
    "too few": "All have answered or were away, and fewer than the least came: wait for one who was away.",
    "settled": "All have answered, and enough are well: the soak begins.",
    "soak": "The soak is not over: wait, and halt if more fail.",
    "passed": "The soak is over: the next wave begins, or the rollout is done.",
}
"""The rules of a gate, in the order in which they are asked; the first that holds decides."""


def judge(gate: Gate, wave: WaveStanding, *, now: datetime) -> Judgement:
    """Return what a gate says to a wave now; the first rule of `RULES` that holds."""
    tally = wave.tally
    there = max(tally.there - wave.forgiven, 0)
    failures = max(tally.failed - wave.forgiven, 0)
    hopeful = there - failures
    if failures > gate.failed * there:
        return _said("failures", Verdict.HALT, f"{failures} of {there} failed, and {gate.failed:.2%} may")
    if hopeful < gate.updated * there:
        found = f"{hopeful} of {there} can still come back, and {gate.updated:.2%} must"
        return _said("out of reach", Verdict.HALT, found)
    if tally.waiting:
        return _said("more to tell", Verdict.TELL, f"{tally.waiting} of {tally.size} wait for their turn")
    if tally.told:
        return _said("answers", Verdict.WAIT, f"{tally.told} of {tally.began} have not answered yet")
    if tally.updated < gate.least and tally.absent:
        found = f"{tally.updated} came back, {tally.absent} are away, and {gate.least} must come"
        return _said("too few", Verdict.WAIT, found)
    return _soaked(gate, wave, now)


def failing(gate: Gate, wave: WaveStanding, *, now: datetime) -> Judgement | None:
    """Return why a wave that was passed stops the rollout after all: who was away came, and failed."""
    found = judge(gate, wave, now=now)
    return found if found.verdict is Verdict.HALT else None


def _soaked(gate: Gate, wave: WaveStanding, now: datetime) -> Judgement:
    tally = wave.tally
    well = f"{tally.updated} of {tally.there} are well, {tally.absent} away"
    if wave.settled_at is None:
        return _said("settled", Verdict.SETTLE, well)
    ends = wave.settled_at + gate.soak
    if now < ends:
        return _said("soak", Verdict.SOAK, f"{well}, soaking until {ends:%Y-%m-%dT%H:%M:%SZ}")
    return _said("passed", Verdict.PASSED, well)


def _said(rule: str, verdict: Verdict, reason: str) -> Judgement:
    return Judgement(verdict=verdict, rule=rule, reason=reason)
