"""Units as the ledger knows them: a piece of hardware, and its generations."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from fleet.core.journal import Outcome
from fleet.model import KeyOrigin
from fleet.station.keeping.life import UnitState
from fleet.station.keeping.package import Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One key of a unit, and what was made for it."""

    number: int
    state: UnitState
    csr: bytes
    csr_hash: str
    key: KeyOrigin = KeyOrigin.DEVICE
    package: Package | None = None
    is_used: bool = False
    """The unit committed to it, at some time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of hardware; `doubt` says why it is in quarantine, or is None."""

    hardware_id: str
    device_id: str | None
    model: str
    doubt: str | None
    generations: tuple[Generation, ...]
    batch: str = ""
    """Which it is made for; empty is the station's first."""
    prefix: str = ""
    """Under which its id was counted; empty where it was not."""
    former: str = ""
    """The id that was counted for it before, and turned out to be another's."""
    rework: bool = False
    """A person let it out of quarantine to be made anew."""

    @property
    def state(self) -> UnitState:
        """The state of its newest generation."""
        return self.generations[-1].state if self.generations else UnitState.RESERVED

    @property
    def is_used(self) -> bool:
        """Tell whether it ever was finished: it may hold an identity beside the one that it waits with."""
        return any(one.is_used for one in self.generations)

    def with_request(self, csr: bytes) -> Generation | None:
        """Return the generation of a CSR."""
        wanted = csr_hash_of(csr)
        return next((one for one in self.generations if one.csr_hash == wanted), None)

    def with_fingerprint(self, fingerprint: bytes) -> Generation | None:
        """Return the generation whose leaf has this fingerprint."""
        kept = (one for one in self.generations if one.package and one.package.fingerprint == fingerprint)
        return next(kept, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One visit of a unit to a port, and how it ended; `reason` is why it did not pass."""

    hardware_id: str
    device_id: str
    outcome: Outcome
    reason: str = ""
    cause: str = ""
    """The reason as one word, by which reports count."""
    batch: str = ""
    operator: str = ""
    """The line operator who was signed on."""

    @property
    def details(self) -> Mapping[str, str]:
        """Return what the journal tells of it."""
        return {
            "hardware": self.hardware_id,
            "device": self.device_id,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "cause": self.cause,
            "batch": self.batch,
            "operator": self.operator,
        }


def csr_hash_of(csr: bytes) -> str:
    """Return the hex SHA-256 of a CSR: with the hardware id, the key of issuance."""
    return hashlib.sha256(csr).hexdigest()
