"""Answers what a session asks, from the ledger and the registration authority.

It never lets an answer out before the ledger has it on the disk.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from device_agent.wire.factory import LinkState
from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.secret import Secret
from fleet.core.station_recall import Release
from fleet.core.station_sync import JournalReceipt
from fleet.errors import FleetError, RefusedError
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitEvent, UnitState
from fleet.station.keeping.package import Package
from fleet.station.keeping.units import Attempt, Generation, Unit
from fleet.station.keeping.workshop import Workshop
from fleet.station.link import steps
from fleet.station.link.causes import Cause, cause_of
from fleet.station.making.ids import IdRule
from fleet.station.making.issuing import Maker
from fleet.station.server.enroller import Enroller
from fleet.station.server.recall import Heir, Recaller
from fleet.station.server.reporting import Reporter

_log = logging.getLogger(__name__)

_SUSPICIOUS = frozenset({ProblemCode.KEY_IN_USE})
"""Refusals of the server that say something of the unit: its key is another device's."""
_DECISION_SECONDS = 3.0
"""So long a unit in quarantine waits for what its server decided; then it is put aside as before."""
_HOLDS_CERTIFICATE = (LinkState.PENDING, LinkState.ACTIVE)


_FINISHED = (UnitState.COMMITTED, UnitState.LABELLED, UnitState.SYNCED)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Clerk:
    """One for all ports of a station."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        enroller: Enroller,
        ids: IdRule,
        batch: str = "",
        recaller: Recaller | None = None,
        clock: Callable[[], datetime] = _utc_now,
        workshop: Workshop | None = None,
    ) -> None:
        """`batch` is what units are made for, empty the station's first; `workshop` signs off line."""
        self._ledger = ledger
        self._enroller = enroller
        self._ids = ids
        self._batch = batch
        self._heir = Heir(ledger=ledger, recaller=recaller, signs_alone=workshop is not None)
        self._reporter = Reporter(ledger=ledger, enroller=enroller, clock=clock)
        self._maker = Maker(
            ledger=ledger, enroller=enroller, reporter=self._reporter, clock=clock, workshop=workshop
        )
        self._codes: dict[str, Secret] = {}

    @property
    def operator(self) -> str:
        """The line operator who is signed on, or empty."""
        return self._reporter.operator

    async def decide(self, question: steps.Question) -> steps.Decision:
        """Return the answer to a session's question; whatever fails becomes a decision."""
        try:
            match question:
                case steps.Recognise(hello=hello):
                    return await self._recognise(hello)
                case steps.Issue():
                    return await self._issue(question)
                case steps.RecordProof(hardware_id=hardware_id, fingerprint=fingerprint):
                    return await self._record(hardware_id, fingerprint, UnitEvent.PROVEN)
                case steps.RecordCommit(hardware_id=hardware_id, fingerprint=fingerprint):
                    return await self._record(hardware_id, fingerprint, UnitEvent.COMMITTED)
        except RefusedError as error:
            if error.code in _SUSPICIOUS:
                return steps.Doubt(reason=str(error), cause=Cause.WRONG_REQUEST)
            return steps.Refuse(reason=str(error), cause=cause_of(error))
        except FleetError as error:
            return steps.Hold(reason=str(error), cause=cause_of(error))

    async def quarantine(self, hardware_id: str, reason: str) -> None:
        """Remember that a unit is doubted."""
        await self._ledger.quarantine(hardware_id, reason)

    def take_code(self, code: Secret, *, device_id: str) -> None:
        """Take an operator's code for a unit that has an identity already: its next visit makes it anew.

        It is kept in memory, until it was used or refused.
        """
        self._codes[device_id] = code

    async def finish(self, attempt: Attempt) -> int:
        """Write down how a visit of a unit ended; return which of its visits it was, from 1."""
        told = replace(attempt, batch=attempt.batch or self._batch, operator=self.operator)
        return await self._ledger.note_attempt(told)

    async def sign_on(self, badge: Secret) -> str | None:
        """Let the operator begin whose badge or PIN this is; None where it is nobody's."""
        return await self._reporter.sign_on(badge)

    async def forward(self) -> AsyncIterator[str]:
        """Get the certificates that units wait for since the server was away, plugged in or not.

        Yields the hardware id of each that has one now. A unit that is refused holds up no other.

        Raises:
            FleetError: the server or the ledger cannot be reached; those before have theirs.
        """
        for hardware_id, _ in await self._ledger.queued():
            unit = await self._ledger.find(hardware_id)
            if unit is None or not unit.generations:
                continue
            try:
                await self._maker.make(unit, unit.generations[-1])
            except RefusedError as error:
                _log.warning("the server refused the request of unit %s: %s", hardware_id, error)
                await self._renumbered(unit)
                continue
            yield hardware_id

    async def carry_out(self) -> tuple[Release, ...]:
        """Do what operators decided about units in quarantine, and return it; raises as `upload`."""
        return await self._heir.carry_out()

    async def upload(self) -> JournalReceipt:
        """Hand in the journal, and take the rules that hold; raises as `Reporter.upload`."""
        return await self._reporter.upload()

    async def confirm(self, hardware_id: str) -> None:
        """Tell the server that a unit uses its newest certificate, where it does; raises FleetError."""
        for one in (await self.generations_of(hardware_id))[-1:]:
            if one.package and one.state in (UnitState.COMMITTED, UnitState.LABELLED):
                await self._enroller.confirm(one.package.serial)
                await self._ledger.record(hardware_id, number=one.number, event=UnitEvent.SYNCED)

    async def sync(self) -> AsyncIterator[str]:
        """Tell the server of all that was committed; yield each serial that it knows now.

        One that the server refuses stays as it is and holds up no other.

        Raises:
            FleetError: the server or the ledger cannot be reached; those before are recorded.
        """
        for hardware_id, number, serial in await self._ledger.unsynced():
            try:
                await self._enroller.confirm(serial)
            except RefusedError as error:
                _log.warning("the server refused to confirm %s of unit %s: %s", serial, hardware_id, error)
                continue
            await self._ledger.record(hardware_id, number=number, event=UnitEvent.SYNCED)
            yield serial

    async def generations_of(self, hardware_id: str) -> tuple[Generation, ...]:
        """Return what was asked and made for a unit, the oldest first: its driver tells which it holds."""
        unit = await self._ledger.find(hardware_id)
        return unit.generations if unit else ()

    async def is_synced(self, hardware_id: str) -> bool:
        """Return whether the server knows of a unit's newest certificate."""
        unit = await self._ledger.find(hardware_id)
        return unit is not None and unit.state is UnitState.SYNCED

    async def _recognise(self, hello: HelloReply) -> steps.Decision:
        if hello.device_id == steps.NOBODY:
            hello = replace(hello, device_id="")
        unit = await self._ledger.find(hello.hardware_id)
        if unit and unit.doubt:
            unit = await self._released(unit)
        if unit and unit.doubt:
            return steps.Doubt(reason=unit.doubt, cause=Cause.QUARANTINED)
        is_coded = hello.device_id in self._codes
        is_anew = is_coded or (unit is not None and unit.rework)
        if hello.state in _HOLDS_CERTIFICATE and not is_anew:
            return await self._resumed(unit, hello)
        device_id = unit.device_id if unit else None
        wishes = ("", device_id, unit.former if unit and hello.state is LinkState.KEYED else "")
        if device_id and hello.device_id not in wishes:
            reason = f"it wants the id {hello.device_id}, the ledger gave it {device_id}"
            return steps.Refuse(reason=reason, cause=Cause.CHANGED_NAME)
        if device_id is None and is_coded:
            device_id = hello.device_id
        if device_id is None:
            if not self._ids.takes(hello.hardware_id):
                return steps.Refuse(reason="it is not on the list of ids", cause=Cause.WRONG_DEVICE)
            await self._heir.begin_numbers(self._ids.counted(hello.device_id))
            device_id = await self._ids.choose(hello.hardware_id, wish=hello.device_id, ledger=self._ledger)
            if hello.state is LinkState.KEYED and await self._ledger.owner_of(device_id):
                reason = f"it has a key for the id {device_id}, which is another unit's"
                return steps.Doubt(reason=reason, cause=Cause.CHANGED_NAME)
        await self._ledger.reserve(
            hello.hardware_id,
            device_id=device_id,
            model=hello.model,
            batch=self._batch,
            prefix=self._ids.counted(hello.device_id),
        )
        return steps.Enrol(device_id=device_id)

    async def _released(self, unit: Unit) -> Unit | None:
        """Return a unit in quarantine by what operators decided up to now, as far as that can be asked.

        Whoever released it plugs it in at once.
        """
        with suppress(FleetError, TimeoutError):
            async with asyncio.timeout(_DECISION_SECONDS):
                await self._heir.carry_out()
        return await self._ledger.find(unit.hardware_id)

    async def _resumed(self, unit: Unit | None, hello: HelloReply) -> steps.Decision:
        """Let a unit prove what it holds; where the ledger does not know it, the server may."""
        if unit is None or unit.with_fingerprint(hello.fingerprint) is None:
            await self._heir.adopt(
                hello.hardware_id, model=hello.model, fingerprint=hello.fingerprint, batch=self._batch
            )
            unit = await self._ledger.find(hello.hardware_id)
        return _resume(unit, hello.fingerprint)

    async def _issue(self, question: steps.Issue) -> steps.Decision:
        await self._ledger.add_request(question.hardware_id, question.csr, key=question.key)
        unit = await self._ledger.find(question.hardware_id)
        asked = unit.with_request(question.csr) if unit else None
        if unit is None or asked is None:
            return steps.Hold(reason="the ledger lost the unit")
        if unit.rework and asked.package is not None:
            if unit.is_used:
                return steps.Refuse(reason=steps.KEPT_KEY, cause=Cause.QUARANTINED)
            return steps.Anew()
        if asked.state is UnitState.REVOKED:
            reason = "its key was replaced by a later one: is it a copy or an old image"
            return steps.Doubt(reason=reason, cause=Cause.OLD_COPY)
        try:
            return steps.Issued(package=asked.package or await self._made(unit, asked))
        except RefusedError:
            other = await self._renumbered(unit)
            if other is None:
                raise
        reason = f"{unit.device_id} was given to another unit elsewhere: this one gets {other}"
        return steps.Hold(reason=reason, cause=Cause.OTHER_NUMBER)

    async def _renumbered(self, unit: Unit) -> str | None:
        """Give a unit that was refused the next number, where its own is another's; None where it is not."""
        is_counted = unit.prefix and not any(one.package for one in unit.generations)
        if not is_counted or not await self._heir.steps_over(unit.prefix, unit.device_id or ""):
            return None
        other = await self._ids.next(unit.prefix, self._ledger)
        await self._ledger.renumber(unit.hardware_id, device_id=other)
        return other

    async def _made(self, unit: Unit, asked: Generation) -> Package:
        code = self._codes.get(unit.device_id or "")
        try:
            package = await self._maker.make(unit, asked, code=code)
        except RefusedError:
            self._codes.pop(unit.device_id or "", None)
            raise
        self._codes.pop(unit.device_id or "", None)
        return package

    async def _record(self, hardware_id: str, fingerprint: bytes, event: UnitEvent) -> steps.Decision:
        unit = await self._ledger.find(hardware_id)
        generation = unit.with_fingerprint(fingerprint) if unit else None
        if generation is None:
            return steps.Doubt(reason="its certificate is not in the ledger")
        await self._ledger.record(hardware_id, number=generation.number, event=event)
        return steps.Recorded()


def _resume(unit: Unit | None, fingerprint: bytes) -> steps.Decision:
    generation = unit.with_fingerprint(fingerprint) if unit else None
    if unit is None or generation is None or generation.package is None:
        reason = "it holds a certificate that this station did not make"
        return steps.Doubt(reason=reason, cause=Cause.MADE_ELSEWHERE)
    if generation.state is UnitState.REVOKED:
        reason = "it holds a certificate that was replaced: is it a copy or an old image"
        return steps.Doubt(reason=reason, cause=Cause.OLD_COPY)
    cause = Cause.MADE_BEFORE if generation.state in _FINISHED else Cause.NONE
    return steps.Resume(device_id=unit.device_id or "", package=generation.package, cause=cause)
