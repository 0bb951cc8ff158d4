"""What follows when a visit ends: the journal learns of it, the line's book gets what is to be sent.

A unit that passed is told once, however often it comes back; every other end is one of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from device_agent.wire.fields import time_text
from fleet.core.journal import Outcome
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.units import Attempt
from fleet.station.link.causes import Cause
from fleet.station.making.clerk import Clerk
from fleet.station.telling.book import Book, Job, Kind
from fleet.station.telling.events import LaneEvent, Stage
from fleet.station.telling.labels import LabelText
from fleet.station.telling.results import LONGEST, Result, Verdict, id_of, verdict_of

_OUTCOMES: Mapping[Verdict, Outcome] = {
    Verdict.PASS: Outcome.PASSED,
    Verdict.FAIL: Outcome.FAILED,
    Verdict.QUARANTINE: Outcome.QUARANTINED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """`kinds` are the ways out that this station has; without a book there is none."""

    station: str
    clerk: Clerk
    clock: Callable[[], datetime]
    book: Book | None = None
    kinds: frozenset[Kind] = frozenset()
    _owed: list[Job] = field(default_factory=list)

    async def note(self, event: LaneEvent) -> None:
        """Write down how a visit ended; raises StoreError."""
        verdict = verdict_of(event)
        if verdict is None:
            return
        if event.cause is not Cause.MADE_BEFORE:
            attempt = Attempt(
                hardware_id=event.hardware_id,
                device_id=event.device_id,
                outcome=_OUTCOMES[verdict],
                reason=event.detail[:LONGEST],
                cause=event.cause.value,
            )
            await self.clerk.finish(attempt)
        if self.book is not None:
            self._owed.extend(self._jobs(verdict, event))
            await self.pay()

    async def pay(self) -> None:
        """Put into the book what a full disk kept out of it; raises StoreError."""
        if self.book is not None and self._owed:
            jobs = tuple(self._owed)
            await self.book.add(jobs)
            del self._owed[: len(jobs)]

    async def catch_up(self, ledger: Ledger) -> None:
        """Owe the results of all that the ledger has: the station may have died before it noted them.

        What the book knows is not told twice; labels are printed for units that are there alone.
        """
        for hardware_id, device_id, serial in await ledger.finished() if self.kinds else ():
            event = LaneEvent(
                port="", stage=Stage.COMMITTED, hardware_id=hardware_id, device_id=device_id, serial=serial
            )
            found = self._jobs(Verdict.PASS, event)
            self._owed.extend(job for job in found if job.kind is not Kind.LABEL)
        await self.pay()

    def _jobs(self, verdict: Verdict, event: LaneEvent) -> Iterator[Job]:
        at = time_text(self.clock())
        result = self._result(verdict, event, at)
        for kind in sorted(self.kinds - {Kind.LABEL}):
            yield Job(kind=kind, id=result.id, unit=event.hardware_id, body=result.line())
        if Kind.LABEL in self.kinds and verdict is Verdict.PASS:
            text = LabelText(
                device_id=event.device_id,
                hardware_id=event.hardware_id,
                serial=event.serial,
                label=event.label,
                station=self.station,
                date=at[:10],
            )
            yield Job(kind=Kind.LABEL, id=event.serial, unit=event.hardware_id, body=text.encode())

    def _result(self, verdict: Verdict, event: LaneEvent, at: str) -> Result:
        return Result(
            id=id_of(verdict, event, at=at),
            at=at,
            result=verdict,
            station=self.station,
            operator=self.clerk.operator,
            port=event.port,
            label=event.label,
            hardware_id=event.hardware_id,
            device_id=event.device_id,
            serial=event.serial,
            cause=event.cause,
            detail=event.detail[:LONGEST],
            elapsed_ms=event.elapsed_ms,
        )
