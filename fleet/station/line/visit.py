"""One unit at one port of the line, from its HELLO until it left: who it is here, and what is asked of it."""

from contextlib import suppress
from dataclasses import dataclass, field, replace

from fleet.station.drivers.driver import Driver
from fleet.station.line.gate import Gate, Place
from fleet.station.link import steps
from fleet.station.link.causes import Cause
from fleet.station.making.clerk import Clerk


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Who answers for all ports of a station."""

    clerk: Clerk
    gate: Gate
    in_hand: set[str] = field(default_factory=set)
    """Hardware ids that are on some port now: two of the same at once are one too many."""


class Visit:
    """It is in hand from HELLO until it left. `label` is what was scanned for it."""

    def __init__(self, desk: Desk, driver: Driver, *, place: Place) -> None:
        self._desk = desk
        self._driver = driver
        self._place = place
        self._hardware_id = ""
        self.label = ""
        self.is_known = False
        """It was finished before."""

    async def decide(self, question: steps.Question) -> steps.Decision:
        """Return the clerk's answer, and before it those of the line."""
        match question:
            case steps.Recognise():
                return await self._recognised(question)
            case steps.RecordProof() if not self.is_known:
                decision = await self._desk.clerk.decide(question)
                return await self._tested() if isinstance(decision, steps.Recorded) else decision
            case _:
                return await self._desk.clerk.decide(question)

    async def _recognised(self, question: steps.Recognise) -> steps.Decision:
        hardware_id = question.hello.hardware_id
        if hardware_id in self._desk.in_hand:
            reason = "a unit with the same hardware id is at another port"
            return steps.Refuse(reason=reason, cause=Cause.TWO_AT_ONCE)
        self._desk.in_hand.add(hardware_id)
        self._hardware_id = hardware_id
        admitted = await self._desk.gate.admit(self._place, question.hello)
        if not isinstance(admitted, tuple):
            return admitted
        hello, self.label = admitted
        decision = await self._desk.clerk.decide(replace(question, hello=hello))
        self.is_known = isinstance(decision, steps.Resume) and decision.cause is Cause.MADE_BEFORE
        return decision

    async def _tested(self) -> steps.Decision:
        seen = self._driver.seen
        unit = {
            "port": self._place.port,
            "hardware_id": seen.hardware_id,
            "device_id": seen.device_id,
            "serial": seen.serial,
            "label": self.label,
        }
        return await self._desk.gate.test(unit)

    def leave(self) -> None:
        """The unit left, or its session is over."""
        with suppress(KeyError):
            self._desk.in_hand.remove(self._hardware_id)
