"""What an operator's act needs from outside; a whole `Context` has it, and so has a test with far less."""

from collections.abc import Callable
from typing import Protocol

from fleet.config import Config
from fleet.model import CutOff
from fleet.ports import Clock, Store

_ID_BYTES = 4


class Brokers(Protocol):
    """The brokers, as far as an act has to wait for them."""

    async def reach(self, sequence: int) -> tuple[CutOff, ...]:
        """Make every broker apply the allowlist's changes up to `sequence`; return whom that cut off."""
        ...


class Lists(Protocol):
    """The revocation lists, as far as an act has to tell of itself."""

    def note_change(self) -> None:
        """Something ended that the lists in force may not hold yet."""
        ...

    def note_superseded(self) -> None:
        """Something is told otherwise by the public lists alone."""
        ...


class Desk(Protocol):
    """Store, time, randomness, brokers, revocation lists and configuration."""

    @property
    def config(self) -> Config: ...

    @property
    def store(self) -> Store: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def randomness(self) -> Callable[[int], bytes]: ...

    @property
    def broker(self) -> Brokers: ...

    @property
    def crls(self) -> Lists: ...


def ordered_id(desk: Desk) -> str:
    """Return an id by which lists go: the time first, and something that two in one second do not share."""
    return f"{int(desk.clock().timestamp()):08x}{desk.randomness(_ID_BYTES).hex()}"
