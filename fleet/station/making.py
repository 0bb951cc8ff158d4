"""Gets a unit's key its certificate: the one place of the station where one is asked for.

Whatever is issued is in the ledger before anybody sees it, and only for keys that the ledger holds.
"""

from fleet.errors import RefusedError
from fleet.station.enroller import Enroller
from fleet.station.ledger import Ledger
from fleet.station.life import UnitState
from fleet.station.package import IssueOrder, Package, pack
from fleet.station.units import Generation, Unit


class Maker:
    """One for all ports of a station."""

    def __init__(self, *, ledger: Ledger, enroller: Enroller) -> None:
        self._ledger = ledger
        self._enroller = enroller

    async def make(self, unit: Unit, asked: Generation) -> Package:
        """Issue for a generation; an earlier one that was asked for and never answered comes first.

        The server may have made that certificate, and only its serial lets it be replaced.

        Raises:
            RefusedError: policy says no.
            UnreachableError: the server is away; the request waits in the ledger.
        """
        replaces: str | None = None
        package = asked.package
        for one in unit.generations:
            package = one.package
            if package is None and one.state is UnitState.RESERVED:
                package = await self._issue(unit, one, replaces=replaces)
            replaces = package.serial if package else replaces
            if one.number == asked.number:
                break
        if package is None:
            raise RefusedError(f"unit {unit.hardware_id} has no certificate and cannot get one")
        return package

    async def _issue(self, unit: Unit, one: Generation, *, replaces: str | None) -> Package:
        order = IssueOrder(
            device_id=unit.device_id or "",
            hardware_id=unit.hardware_id,
            csr=one.csr,
            replaces=replaces,
            key=one.key,
            batch=unit.batch,
        )
        package = pack(order, await self._enroller.issue(order))
        await self._ledger.add_package(unit.hardware_id, number=one.number, package=package)
        return package
