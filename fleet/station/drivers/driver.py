"""The one interface of all drivers: a unit on a line goes in, the end of its visit comes out.

A driver speaks one device protocol. It decides nothing about certificates: it asks the same questions as
every other, in the same order, and nothing goes to a unit before the answer.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from fleet.station.link import steps

Decide: TypeAlias = Callable[[steps.Question], Awaitable[steps.Decision]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of the unit on the line, empty where nothing is."""

    hardware_id: str = ""
    device_id: str = ""
    serial: str = ""
    """Of its certificate."""
    done: int = 0
    total: int = 0
    """Bytes of its objects that the unit holds, and all of them."""
    calls: int = 0
    """Questions that it answered."""
    tofu: bool = False
    """It had no anchor of its own and believed this station."""


class Driver(Protocol):
    """One visit of one unit; made anew for each.

    `wire_bytes` counts what went both ways and `began` is the time of the event loop, both from the first
    answer.
    """

    wire_bytes: int
    began: float

    @property
    def step(self) -> steps.Step:
        """Return what the visit is at."""
        ...

    @property
    def seen(self) -> Seen:
        """Return what is known of the unit."""
        ...

    async def serve(self, *, decide: Decide, watch: Callable[["Driver"], None]) -> steps.End:
        """Serve the unit to the end of its visit; `watch` is called with this driver after each move.

        Raises:
            UnpluggedError: the port went away.
        """
        ...

    async def until_it_leaves(self) -> None:
        """Return when the unit does not answer any more, or another answers."""
        ...
