"""What an operator's act needs from outside; a whole `Context` has it, and so has a test with far less."""

from collections.abc import Callable
from typing import Protocol

from fleet.config import Config
from fleet.model import CutOff
from fleet.ports import Clock, Store


class Brokers(Protocol):
    """The brokers, as far as an act has to wait for them."""

    async def reach(self, sequence: int) -> tuple[CutOff, ...]:
        """Make every broker apply the allowlist's changes up to `sequence`; return whom that cut off."""
        ...


class Desk(Protocol):
    """Store, time, randomness, brokers and configuration."""

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
