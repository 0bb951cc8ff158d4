"""The device record: all that a device must remember between two power cuts.

One frozen value, replaced as a whole by one durable write. Keys stand in it by reference only; a secret
key never does.
"""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.replies import BrokerAddress
from device_agent.wire.requests import Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A trust anchor of the device's domain."""

    fingerprint: str
    """SHA-256 of its DER, hex."""
    pem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate and the name of the key that it certifies."""

    key: str
    """What the key store calls the key."""
    key_hash: str
    """SHA-256 of the key's SubjectPublicKeyInfo, hex."""
    serial: str
    certificate: str
    """The leaf, PEM."""
    chain: str
    """From the leaf's issuer up to below the anchor, PEM."""
    not_before: datetime
    not_after: datetime
    renew_after: datetime | None = None
    """The server's wish."""
    broker: BrokerAddress
    """Where it is used; its host is empty where nobody has named a broker, as EST does not."""

    @property
    def has_broker(self) -> bool:
        """Tell whether there is a broker to connect to."""
        return self.broker.host != ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The slot of the next credential: a key first, its certificate later."""

    key: str
    key_hash: str
    attempt: int
    """Which key since the active certificate this is; a renewal is known by it."""
    credential: Credential | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """Two slots and what goes with them.

    Raises:
        ValueError: a pending key that nothing admits: no proof is held and no certificate could renew.
    """

    active: Credential | None = None
    pending: Pending | None = None
    attempt: int = 0
    """Keys made so far; never goes back while the record lives."""
    anchors: tuple[Anchor, ...] = ()
    proof: Proof | None = None
    """What lets the device enroll; held until its first certificate is confirmed."""
    drop_acked: bool = False
    """The server knows that the slot before the active one is gone."""

    def __post_init__(self) -> None:
        key_only = self.pending is not None and self.pending.credential is None
        if key_only and self.active is None and self.proof is None:
            raise ValueError("a pending key needs a proof to enroll by or a certificate to renew")
