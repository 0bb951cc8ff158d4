"""The life of a rollover: one table, and what must be true before a step that cannot be taken back.

It knows no key and no device by name: it counts. What is not in the table is refused, and an order that is
given twice changes nothing the second time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleet.errors import RefusedError


class RolloverKind(StrEnum):
    """What is replaced; stored by name."""

    ROOT = "root"
    """The root of a realm, with the issuing CAs below it: devices are told first whom to trust."""
    ISSUING = "issuing"
    """Issuing CAs below the same root: devices need to be told nothing."""


class RolloverState(StrEnum):
    """Where a rollover stands; stored by name."""

    REQUESTED = "requested"
    """The issuing keys are made, and wait for the root's signature."""
    PREPARED = "prepared"
    """The new keys are made, and the roots have signed for each other. Nobody was told."""
    PUBLISHED = "published"
    """Devices are told to trust both."""
    SWITCHED = "switched"
    """What is new comes from the new CA; the old one is still believed."""
    RETIRED = "retired"
    """Nobody believes the old one any more."""
    ABANDONED = "abandoned"


class RolloverEvent(StrEnum):
    """What an operator orders."""

    PREPARE = "prepare"
    PUBLISH = "publish"
    SWITCH = "switch"
    RETIRE = "retire"
    ABANDON = "abandon"


_State, _Event, _Kind = RolloverState, RolloverEvent, RolloverKind

# fmt: off
TRANSITIONS: Mapping[tuple[RolloverKind, RolloverState, RolloverEvent], RolloverState] = {
    (_Kind.ROOT,    _State.REQUESTED, _Event.PREPARE): _State.PREPARED,
    (_Kind.ROOT,    _State.REQUESTED, _Event.ABANDON): _State.ABANDONED,
    (_Kind.ROOT,    _State.PREPARED,  _Event.PREPARE): _State.PREPARED,
    (_Kind.ROOT,    _State.PREPARED,  _Event.PUBLISH): _State.PUBLISHED,
    (_Kind.ROOT,    _State.PREPARED,  _Event.ABANDON): _State.ABANDONED,
    (_Kind.ROOT,    _State.PUBLISHED, _Event.PUBLISH): _State.PUBLISHED,
    (_Kind.ROOT,    _State.PUBLISHED, _Event.SWITCH):  _State.SWITCHED,
    (_Kind.ROOT,    _State.SWITCHED,  _Event.PUBLISH): _State.SWITCHED,
    (_Kind.ROOT,    _State.SWITCHED,  _Event.SWITCH):  _State.SWITCHED,
    (_Kind.ROOT,    _State.SWITCHED,  _Event.RETIRE):  _State.RETIRED,
    (_Kind.ROOT,    _State.RETIRED,   _Event.RETIRE):  _State.RETIRED,
    (_Kind.ROOT,    _State.ABANDONED, _Event.ABANDON): _State.ABANDONED,
    (_Kind.ISSUING, _State.REQUESTED, _Event.PREPARE): _State.PREPARED,
    (_Kind.ISSUING, _State.REQUESTED, _Event.ABANDON): _State.ABANDONED,
    (_Kind.ISSUING, _State.PREPARED,  _Event.PREPARE): _State.PREPARED,
    (_Kind.ISSUING, _State.PREPARED,  _Event.SWITCH):  _State.SWITCHED,
    (_Kind.ISSUING, _State.PREPARED,  _Event.ABANDON): _State.ABANDONED,
    (_Kind.ISSUING, _State.SWITCHED,  _Event.SWITCH):  _State.SWITCHED,
    (_Kind.ISSUING, _State.SWITCHED,  _Event.RETIRE):  _State.RETIRED,
    (_Kind.ISSUING, _State.RETIRED,   _Event.RETIRE):  _State.RETIRED,
    (_Kind.ISSUING, _State.ABANDONED, _Event.ABANDON): _State.ABANDONED,
}
# fmt: on

OPEN = frozenset({_State.REQUESTED, _State.PREPARED, _State.PUBLISHED, _State.SWITCHED})
"""Of one realm, one rollover at a time is open."""

_NEXT = {
    (_Kind.ROOT, _State.REQUESTED): RolloverEvent.PREPARE,
    (_Kind.ROOT, _State.PREPARED): RolloverEvent.PUBLISH,
    (_Kind.ROOT, _State.PUBLISHED): RolloverEvent.SWITCH,
    (_Kind.ROOT, _State.SWITCHED): RolloverEvent.RETIRE,
    (_Kind.ISSUING, _State.REQUESTED): RolloverEvent.PREPARE,
    (_Kind.ISSUING, _State.PREPARED): RolloverEvent.SWITCH,
    (_Kind.ISSUING, _State.SWITCHED): RolloverEvent.RETIRE,
}
"""What leads on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollover:
    """One rollover. CAs are named by their folders below the home's `ca/`."""

    number: int
    realm: str
    kind: RolloverKind
    state: RolloverState
    gives_up: tuple[str, ...]
    """The CAs that stop at the switch; of a root's rollover the root first."""
    brings: tuple[str, ...]
    """The CAs that take over; of a root's rollover the root first."""
    version: int | None = None
    """Of the trust bundle that holds both roots; the next one holds the new root alone."""
    started_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Who holds the bundle of a rollover. Names are samples, counts are whole."""

    agents: int = 0
    """Devices in service that can acknowledge a bundle."""
    acknowledged: int = 0
    plain: int = 0
    """Clients that say nothing of whom they trust: EST, AWS SDKs. Their trust is the operator's to know."""
    silent: tuple[str, ...] = ()
    """Names of agents that have not acknowledged it."""

    @property
    def missing(self) -> int:
        return self.agents - self.acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Who still needs a CA that is to be given up. Names are samples, the count is whole."""

    count: int = 0
    names: tuple[str, ...] = ()


class Insistence(StrEnum):
    """Whether an operator goes on although devices have not been heard of."""

    WAIT = "wait"
    GO_ON = "go-on"


def next_step(rollover: Rollover) -> RolloverEvent | None:
    """Return what is to be ordered next, or None where it has come to its end."""
    return _NEXT.get((rollover.kind, rollover.state))


def after(rollover: Rollover, event: RolloverEvent) -> RolloverState:
    """Return where a rollover stands after an event.

    Raises:
        RefusedError: that cannot be done to it now.
    """
    found = TRANSITIONS.get((rollover.kind, rollover.state, event))
    if found is None:
        raise RefusedError(
            f"the {rollover.kind} rollover of {rollover.realm} is {rollover.state}: it cannot {event} now",
            hint="fleet ca rollover status"
            if (step := next_step(rollover)) is None
            else f"fleet ca rollover {step} {rollover.realm}",
        )
    return found


def require_heard(rollover: Rollover, heard: Heard, insistence: Insistence) -> None:
    """Let a root's rollover be switched once all agents hold its bundle, or where somebody insists.

    Raises:
        RefusedError: some have not acknowledged it, and they are named.
    """
    if rollover.kind is RolloverKind.ISSUING or insistence is Insistence.GO_ON or not heard.missing:
        return
    raise RefusedError(
        f"{heard.missing} of {heard.agents} devices have not acknowledged trust bundle {rollover.version}"
        f" of {rollover.realm}: {_some(heard.silent, heard.missing)}",
        hint="wait for them, or --anyway: those that sleep are led on by the link between the roots",
    )


def require_unneeded(rollover: Rollover, need: Need) -> None:
    """Let the old CA go once nobody needs it.

    Raises:
        RefusedError: some do, and they are named.
    """
    if not need.count:
        return
    what = "root" if rollover.kind is RolloverKind.ROOT else "issuing CA"
    raise RefusedError(
        f"{need.count} still need the old {what} of {rollover.realm}: {_some(need.names, need.count)}",
        hint="wait until they have renewed; fleet device retire takes out what will not come back",
    )


def _some(names: tuple[str, ...], count: int) -> str:
    more = count - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
