"""What the factory link needs of a device, and the records that pass between them."""

from dataclasses import dataclass
from typing import Protocol

from device_agent.wire.factory import LinkState
from device_agent.wire.objects import Configuration, ObjectHashes


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitReport:
    """What a device says of itself."""

    hardware_id: str
    device_id: str
    """The id that it has, or wants; empty where it has no wish."""
    model: str
    state: LinkState
    fingerprint: bytes = b""
    """SHA-256 of the leaf in the slot that would sign a proof; empty where there is none."""
    hashes: ObjectHashes | None = None
    """Of the objects that this slot was installed from; None where it came another way."""
    anchors: tuple[bytes, ...] = ()
    """Roots by which a station is trusted, DER; none means that the first station is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What a station that is trusted wants to have installed, all of it checked against its signature."""

    chain: tuple[bytes, ...]
    """DER, leaf first."""
    anchors: tuple[bytes, ...]
    configuration: Configuration
    hashes: ObjectHashes
    station: str
    tofu: bool
    """The device had no anchor: nobody vouches for this station or its anchors."""


class Unit(Protocol):
    """What the link needs of the device. Each act is durable when it returns; each may raise `AgentError`."""

    def report(self) -> UnitReport:
        """Return who the device is and how far."""
        ...

    def request(self, device_id: str) -> bytes:
        """Make a pending key for this id, or keep the one that was made for it; return its CSR, DER.

        The same key gives the same bytes each time: the station knows a request by its hash.
        """
        ...

    def install(self, installation: Installation) -> None:
        """Judge the chain, then put everything into the pending slot; the active one stays."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign with the key of the slot that `report` names, ECDSA with SHA-256 in DER."""
        ...

    def commit(self) -> None:
        """Make the pending slot the active one, in one write."""
        ...
