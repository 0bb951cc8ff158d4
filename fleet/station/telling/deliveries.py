"""Carries the jobs of the line's book to where they go: in order, again and again until they arrived.

Whoever is away holds up its own queue and nobody else's; no lane waits for any of it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from fleet.errors import FleetError
from fleet.station.telling.book import Book, Job, Kind

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_SET_ASIDE = timedelta(minutes=10)
"""A job that is refused lets the others pass meanwhile."""


class Courier(Protocol):
    """One way out of the station."""

    @property
    def kind(self) -> Kind:
        """Return whose jobs it takes."""
        ...

    @property
    def at_once(self) -> int:
        """Return how many it takes in one go."""
        ...

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[str]:
        """Deliver jobs; return for each why it was refused, or nothing where it arrived.

        Raises:
            FleetError: nothing of it may have arrived; all are tried again.
        """
        ...


async def carry(
    book: Book,
    courier: Courier,
    *,
    clock: Callable[[], datetime],
    tell: Callable[[Kind, int, str], None],
) -> None:
    """Deliver what is due, until cancelled; `tell` learns how many jobs wait, and why."""
    pause, told = _FIRST_PAUSE, ""
    while True:
        try:
            moved = await _carry_some(book, courier, now=clock())
            pause, told = _FIRST_PAUSE, ""
            tell(courier.kind, await book.waiting(courier.kind), await book.problem(courier.kind))
            if not moved:
                await asyncio.sleep(_LOOK_SECONDS)
        except FleetError as error:
            if str(error) != told:
                _log.warning("the %s queue waits: %s", courier.kind, error)
            told = str(error)
            tell(courier.kind, await _count(book, courier.kind), told)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


async def _carry_some(book: Book, courier: Courier, *, now: datetime) -> int:
    jobs = await book.due(courier.kind, limit=courier.at_once)
    if not jobs:
        return 0
    refused = await courier.deliver(jobs)
    await book.done([job for job, why in zip(jobs, refused, strict=True) if not why])
    for job, why in zip(jobs, refused, strict=True):
        if why:
            _log.warning("%s %s of unit %s was refused: %s", courier.kind, job.id, job.unit, why)
            await book.put_off(job, problem=why, until=now + _SET_ASIDE)
    return len(jobs)


async def _count(book: Book, kind: Kind) -> int:
    try:
        return await book.waiting(kind)
    except FleetError:
        return 0
