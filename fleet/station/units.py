"""Units as the ledger knows them: a piece of hardware, and its generations."""

import hashlib
from dataclasses import dataclass

from fleet.station.life import UnitState
from fleet.station.package import Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One key of a unit, and what was made for it."""

    number: int
    state: UnitState
    csr: bytes
    csr_hash: str
    package: Package | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of hardware; `doubt` says why it is in quarantine, or is None."""

    hardware_id: str
    device_id: str | None
    model: str
    doubt: str | None
    generations: tuple[Generation, ...]

    @property
    def state(self) -> UnitState:
        """The state of its newest generation."""
        return self.generations[-1].state if self.generations else UnitState.RESERVED

    def with_request(self, csr: bytes) -> Generation | None:
        """Return the generation of a CSR."""
        wanted = csr_hash_of(csr)
        return next((one for one in self.generations if one.csr_hash == wanted), None)

    def with_fingerprint(self, fingerprint: bytes) -> Generation | None:
        """Return the generation whose leaf has this fingerprint."""
        kept = (one for one in self.generations if one.package and one.package.fingerprint == fingerprint)
        return next(kept, None)


def csr_hash_of(csr: bytes) -> str:
    """Return the hex SHA-256 of a CSR: with the hardware id, the key of issuance."""
    return hashlib.sha256(csr).hexdigest()
