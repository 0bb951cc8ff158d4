"""What follows when a visit ends: the journal learns of it, the line's book gets what is to be sent.

A unit that passed is told once, however often it comes back; every other end is one of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.fields import time_text
from fleet.core.journal import Outcome
from fleet.station.book import Book, Job, Kind
from fleet.station.causes import Cause
from fleet.station.clerk import Clerk
from fleet.station.events import LaneEvent
from fleet.station.labels import LabelText
from fleet.station.results import LONGEST, Result, Verdict, id_of, verdict_of
from fleet.station.units import Attempt

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
            await self.book.add(list(self._jobs(verdict, event)))

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
