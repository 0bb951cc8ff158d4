"""The ways out of a station beside its server: results to the factory's systems, labels to a printer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fleet.station.telling.book import Book, Kind
from fleet.station.telling.deliveries import Courier, carry


def _ignore(_kind: Kind, _waiting: int, _problem: str) -> None:
    """Nobody wants to know how much waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlets:
    """`tell` learns how many jobs of a kind wait, and why."""

    book: Book | None = None
    couriers: tuple[Courier, ...] = ()
    tell: Callable[[Kind, int, str], None] = _ignore

    @property
    def kinds(self) -> frozenset[Kind]:
        """Return where something goes."""
        return frozenset(courier.kind for courier in self.couriers)

    def open(self, group: asyncio.TaskGroup) -> None:
        """Carry what is due, as long as the group runs."""
        if self.book is None:
            return
        for courier in self.couriers:
            group.create_task(carry(self.book, courier, clock=_now, tell=self.tell))


def _now() -> datetime:
    return datetime.now(UTC)
