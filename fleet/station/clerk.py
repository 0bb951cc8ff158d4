"""Answers what a session asks, from the ledger and the registration authority.

It never lets an answer out before the ledger has it on the disk.
"""

import logging
from collections.abc import AsyncIterator

from device_agent.wire.factory import LinkState
from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.problems import ProblemCode
from fleet.errors import FleetError, RefusedError
from fleet.station import steps
from fleet.station.enroller import Enroller
from fleet.station.ids import IdRule
from fleet.station.ledger import Ledger
from fleet.station.life import UnitEvent, UnitState
from fleet.station.package import IssueOrder, Package, pack
from fleet.station.units import Generation, Unit

_log = logging.getLogger(__name__)

_SUSPICIOUS = frozenset({ProblemCode.KEY_IN_USE})
"""Refusals of the server that say something of the unit: its key is another device's."""
_HOLDS_CERTIFICATE = (LinkState.PENDING, LinkState.ACTIVE)


class Clerk:
    """One for all ports of a station."""

    def __init__(self, *, ledger: Ledger, enroller: Enroller, ids: IdRule) -> None:
        self._ledger = ledger
        self._enroller = enroller
        self._ids = ids

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
            return (
                steps.Doubt(reason=str(error))
                if error.code in _SUSPICIOUS
                else steps.Refuse(reason=str(error))
            )
        except FleetError as error:
            return steps.Hold(reason=str(error))

    async def quarantine(self, hardware_id: str, reason: str) -> None:
        """Remember that a unit is doubted."""
        await self._ledger.quarantine(hardware_id, reason)

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
        unit = await self._ledger.find(hello.hardware_id)
        if unit and unit.doubt:
            return steps.Doubt(reason=unit.doubt)
        if hello.state in _HOLDS_CERTIFICATE:
            return _resume(unit, hello.fingerprint)
        device_id = unit.device_id if unit else None
        if device_id and hello.device_id not in ("", device_id):
            return steps.Refuse(reason=f"it wants the id {hello.device_id}, the ledger gave it {device_id}")
        if device_id is None:
            device_id = await self._ids.choose(hello.hardware_id, wish=hello.device_id, ledger=self._ledger)
        await self._ledger.reserve(hello.hardware_id, device_id=device_id, model=hello.model)
        return steps.Enrol(device_id=device_id)

    async def _issue(self, question: steps.Issue) -> steps.Decision:
        await self._ledger.add_request(question.hardware_id, question.csr)
        unit = await self._ledger.find(question.hardware_id)
        asked = unit.with_request(question.csr) if unit else None
        if unit is None or asked is None:
            return steps.Hold(reason="the ledger lost the unit")
        if asked.state is UnitState.REVOKED:
            return steps.Doubt(reason="its key was replaced by a later one: is it a copy or an old image")
        package = asked.package or await self._make(unit, asked, question)
        return steps.Issued(package=package)

    async def _make(self, unit: Unit, asked: Generation, question: steps.Issue) -> Package:
        """Issue for a generation; an earlier one that was asked for and never answered comes first.

        The server may have made that certificate, and only its serial lets it be replaced.
        """
        replaces: str | None = None
        package = asked.package
        for one in unit.generations:
            package = one.package
            if package is None and one.state is UnitState.RESERVED:
                order = IssueOrder(
                    device_id=question.device_id,
                    hardware_id=unit.hardware_id,
                    csr=one.csr,
                    replaces=replaces,
                    key=question.key,
                )
                package = pack(order, await self._enroller.issue(order))
                await self._ledger.add_package(unit.hardware_id, number=one.number, package=package)
            replaces = package.serial if package else replaces
            if one.number == asked.number:
                break
        if package is None:
            raise RefusedError(f"unit {unit.hardware_id} has no certificate and cannot get one")
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
        return steps.Doubt(reason="it holds a certificate that this station did not make")
    if generation.state is UnitState.REVOKED:
        return steps.Doubt(reason="it holds a certificate that was replaced: is it a copy or an old image")
    return steps.Resume(device_id=unit.device_id or "", package=generation.package)
