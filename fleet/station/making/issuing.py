"""Gets a unit's key its certificate: the one place of the station where one is asked for.

Whatever is issued is in the ledger before anybody sees it, and only for keys that the ledger holds. While the
server is away, the station's own CA signs if there is a lease; else the request waits.
"""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from device_agent.wire.secret import Secret
from fleet.core.serial import LEASED_RANDOMNESS
from fleet.errors import RefusedError, UnreachableError
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitState
from fleet.station.keeping.package import IssueOrder, Package, pack
from fleet.station.keeping.units import Generation, Unit
from fleet.station.keeping.workshop import Made, Workshop
from fleet.station.server.enroller import Enroller
from fleet.station.server.reporting import Reporter

_NOT_ASKED = timedelta(seconds=20)
"""So long the server is not asked again once it did not answer, where the station can sign itself."""


class Maker:
    """One for all ports of a station."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        enroller: Enroller,
        reporter: Reporter,
        clock: Callable[[], datetime],
        workshop: Workshop | None = None,
    ) -> None:
        self._ledger = ledger
        self._enroller = enroller
        self._reporter = reporter
        self._clock = clock
        self._workshop = workshop
        self._away_at: datetime | None = None

    async def make(self, unit: Unit, asked: Generation, *, code: Secret | None = None) -> Package:
        """Issue for a generation; an earlier one that was asked for and never answered comes first.

        The server may have made that certificate, and only its serial lets it be replaced. `code` is an
        operator's, for a unit that has an identity already: then the server alone can answer.

        Raises:
            RefusedError: policy says no.
            UnreachableError: the server is away; the request waits in the ledger.
        """
        replaces: str | None = None
        package = asked.package
        for one in unit.generations:
            package = one.package
            if package is None and one.state is UnitState.RESERVED:
                package = await self._issue(unit, one, replaces=replaces, code=code)
            replaces = package.serial if package else replaces
            if one.number == asked.number:
                break
        if package is None:
            raise RefusedError(f"unit {unit.hardware_id} has no certificate and cannot get one")
        return package

    async def _issue(
        self, unit: Unit, one: Generation, *, replaces: str | None, code: Secret | None
    ) -> Package:
        order = IssueOrder(
            device_id=unit.device_id or "",
            hardware_id=unit.hardware_id,
            csr=one.csr,
            replaces=replaces,
            key=one.key,
            batch=unit.batch,
            code=code,
        )
        workshop = None if code else self._workshop
        if workshop is not None and self._is_away():
            return await self._sign(workshop, order, one)
        try:
            package = pack(order, await self._enroller.issue(order))
        except UnreachableError:
            if workshop is None:
                raise
            self._away_at = self._clock()
            return await self._sign(workshop, order, one)
        self._away_at = None
        await self._ledger.add_package(unit.hardware_id, number=one.number, package=package)
        return package

    def _is_away(self) -> bool:
        return self._away_at is not None and abs(self._clock() - self._away_at) < _NOT_ASKED

    async def _sign(self, workshop: Workshop, order: IssueOrder, one: Generation) -> Package:
        """Sign under the lease; raises `UnreachableError` where it does not cover this unit now."""
        lease, receipt = workshop.lease, await self._reporter.receipt()
        if order.batch not in {"", lease.batch}:
            raise UnreachableError(f"the server is away, and the lease is for batch {lease.batch}")
        if receipt is not None and (fault := receipt.rules.fault_of(lease.batch, order.device_id)):
            raise RefusedError(fault)

        def sign(number: int, written: datetime | None) -> Made:
            now = self._clock()
            known = (lease.issued_at, written, None if receipt is None else receipt.now)
            floor = max(one for one in known if one is not None)
            if (refusal := lease.refusal(now=now, floor=floor, next_number=number)) is not None:
                raise UnreachableError(
                    f"the server is away, and lease {lease.lease} {refusal}", hint="fleet station lease grant"
                )
            return workshop.make(
                order, number=number, now=now, randomness=secrets.token_bytes(LEASED_RANDOMNESS)
            )

        return await self._ledger.add_made(order.hardware_id, number=one.number, sign=sign)
