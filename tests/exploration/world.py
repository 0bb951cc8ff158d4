"""One state of everything: devices, server, broker, network, and what may still go wrong.

Records and messages stand in it as small numbers, so that a world is cheap to hash; a `Pool` gives each
value its number, and each core decision is made once for each pair of numbers.
"""

from collections.abc import Hashable
from enum import IntEnum, auto
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)


class Pool(Generic[T]):
    """Numbers for values: equal values, equal numbers."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}
        self._values: list[T] = []

    def number(self, value: T) -> int:
        found = self._numbers.get(value)
        if found is None:
            found = self._numbers[value] = len(self._values)
            self._values.append(value)
        return found

    def __getitem__(self, number: int) -> T:
        return self._values[number]

    def __len__(self) -> int:
        return len(self._values)


class Fault(IntEnum):
    """What can happen to a world, each as often as its budget says."""

    DUE = 0
    """Renewal falls due."""
    LOSS = auto()
    DUPLICATE = auto()
    CRASH = auto()
    """The server crashes: before a signature is on record, or after a commit and before its answer."""
    EARLY = auto()
    """T_pending passes while the device still holds the key."""
    LOSE_SLOT = auto()
    WIPE = auto()
    REVOKE = auto()
    NEW_CODE = auto()
    EXPIRE = auto()
    GRACE = auto()
    CLONE = auto()
    SNAPSHOT = auto()
    ROLLBACK = auto()
    """The snapshot is put back."""
    BROKER_LOST = auto()
    """The broker's list is empty."""
    ROLLOVER = auto()
    BUNDLE = auto()
    """A trust bundle reaches the device: both anchors, or the new one alone once nobody needs the old one."""
    SUSPEND = auto()
    RESOLVE = auto()
    CODE = auto()
    """An operator's code comes to the device, whatever it is doing."""
    WRONG_CODE = auto()
    """A code that the server does not know is typed into a device that has a certificate."""
    LOSE_KEY = auto()
    """The key of the active certificate is gone: its file, or the token that it was in."""
    RESTORE = auto()
    """The server comes back from a backup and the trail that was kept elsewhere."""
    RESTORE_BARE = auto()
    """The server comes back from a backup alone: it is frozen until an operator has looked."""


class Ghost(NamedTuple):
    """What the checks must remember; no party of the protocol sees it."""

    revoked: bool = False
    fork: int = -1
    """How many keys there were when the clone was taken."""
    restored: bool = False
    wiped: bool = False
    lost: bool = False
    expired: bool = False
    grace_over: bool = False
    resolved: str = ""
    forgotten: bool = False
    """The server does not know what came after its backup."""
    turns: int = 0
    """How often two copies took turns in renewing; the last renewer plus ten times the turns."""
    image: int = -1


class Past(NamedTuple):
    """What a server that was restored does not have any more."""

    gone: frozenset[str] = frozenset()
    """Serials on record whose certificates were in the lost database."""
    frozen: bool = False
    """Nothing is issued until an operator has looked."""
    highest: int = 0
    """Serials up to this one have been given out, whatever stands on record."""


class World(NamedTuple):
    """One state."""

    devices: tuple[int, ...]
    server: int
    allowlist: frozenset[str]
    """What the broker admits: the server's list, sooner or later."""
    net: frozenset[int]
    signing: frozenset[tuple[str, int]]
    """Serials whose signature is being made, and the request of each."""
    keys: int
    clock: int
    """The broker's order, as far as it matters."""
    stale: int
    anchor: str
    budget: tuple[int, ...]
    ghost: Ghost = Ghost()
    past: Past = Past()


def spend(world: World, fault: Fault) -> tuple[int, ...]:
    budget = world.budget
    return (*budget[:fault], budget[fault] - 1, *budget[fault + 1 :])


def budget_of(budget: dict[Fault, int]) -> tuple[int, ...]:
    return tuple(budget.get(fault, 0) for fault in Fault)
