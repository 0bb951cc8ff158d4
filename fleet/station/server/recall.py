"""Goes on where another station stopped: its units, its numbers, and what was decided about units here."""

from dataclasses import dataclass, replace
from typing import Protocol

from device_agent.wire.objects import ObjectHashes
from fleet.core.station_recall import Numbers, NumbersAsked, Release
from fleet.errors import NotFoundError, UnreachableError
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitState
from fleet.station.keeping.package import Issuance, IssueOrder, pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What the server knows of a certificate that is not in the ledger."""

    issuance: Issuance
    is_in_use: bool
    given: ObjectHashes | None = None
    """What the unit got with it, where the station that made it told."""


class Recaller(Protocol):
    """The server, as a station asks it for what it has lost or never had."""

    async def recall(self, fingerprint: bytes) -> Recalled:
        """Return what was issued; raises NotFoundError where it is not this station's business."""
        ...

    async def numbers(self, asked: NumbersAsked) -> Numbers:
        """Return the highest number of a prefix that some device has, and whether an id has a key."""
        ...

    async def releases(self, taken: tuple[int, ...]) -> tuple[Release, ...]:
        """Say which decisions are carried out; return those that are not."""
        ...


class Heir:
    """One for a station; without a server to ask it changes nothing."""

    def __init__(self, *, ledger: Ledger, recaller: Recaller | None, signs_alone: bool = False) -> None:
        """`signs_alone`: the station may sign off line, where nobody else refuses a number that is taken."""
        self._ledger = ledger
        self._recaller = recaller
        self._signs_alone = signs_alone
        self._taken: tuple[int, ...] = ()

    async def adopt(self, hardware_id: str, *, model: str, fingerprint: bytes, batch: str) -> None:
        """Put what another station made for a unit into the ledger, where the server knows of it.

        Raises:
            UnreachableError: the server cannot be asked now.
            RefusedError: the id of that certificate is another unit's here.
        """
        if self._recaller is None:
            return
        try:
            found = await self._recaller.recall(fingerprint)
        except NotFoundError:
            return
        _, _, device_id = found.issuance.broker.name.rpartition(":")
        await self._ledger.reserve(hardware_id, device_id=device_id, model=model, batch=batch)
        order = IssueOrder(device_id=device_id, hardware_id=hardware_id, csr=b"", batch=batch)
        state = UnitState.SYNCED if found.is_in_use else UnitState.ISSUED
        package = replace(pack(order, found.issuance), given=found.given)
        await self._ledger.adopt(hardware_id, package=package, state=state)

    async def begin_numbers(self, prefix: str) -> None:
        """Let a ledger that never gave out a number of a prefix go on after those that the server knows.

        A server that is away is asked again later; it refuses a number that is taken.

        Raises:
            UnreachableError: it is away, and was never asked by a station that may sign off line.
        """
        if self._recaller is None or not prefix or await self._ledger.last_number(prefix) is not None:
            return
        try:
            found = await self._recaller.numbers(NumbersAsked(prefix=prefix))
            await self._ledger.skip_numbers(prefix, to=found.last)
        except UnreachableError as error:
            if self._signs_alone:
                raise UnreachableError(
                    f"the server is away, and never told this station which numbers of {prefix} are taken",
                    hint="let the station reach the server once before it signs off line",
                ) from error

    async def steps_over(self, prefix: str, device_id: str) -> bool:
        """Tell whether an id that was counted here is another's by now; then numbers go on after the last.

        Two stations may count under one prefix: the server has the last word. Raises FleetError.
        """
        if self._recaller is None:
            return False
        found = await self._recaller.numbers(NumbersAsked(prefix=prefix, device_id=device_id))
        if found.is_taken:
            await self._ledger.skip_numbers(prefix, to=found.last)
        return found.is_taken

    async def carry_out(self) -> tuple[Release, ...]:
        """Do what was decided about units in quarantine; return it. Raises FleetError."""
        if self._recaller is None:
            return ()
        found = await self._recaller.releases(self._taken)
        for one in found:
            await self._ledger.release(one.hardware, by=one.actor, fate=one.fate)
        self._taken = tuple(one.number for one in found)
        return found
