"""What can happen to a device, and what it can do about it: the words of the life cycle's table.

Nothing here decides; `lifecycle` does.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from device_agent.core.record import Anchor, Credential, DeviceRecord
from device_agent.wire.replies import ReportedState
from device_agent.wire.requests import Proof


class Route(StrEnum):
    """By which credential, and to which listener, a request goes."""

    CLAIM = "claim"
    ACTIVE = "active"
    PENDING = "pending"
    RECOVERY = "recovery"
    """No TLS credential at all: a signature by the key of the certificate in question."""


class Ask(StrEnum):
    """What is asked; the wire has a message of the same name."""

    ENROLL = "enroll"
    RENEW = "renew"
    CONFIRM = "confirm"
    DONE = "done"
    STATUS = "status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the moment adds to the record."""

    due: bool = False
    """The active certificate should be renewed."""
    expired: bool = False
    """Its notAfter has passed, so that no listener but recovery takes it."""
    refused: frozenset[Route] = frozenset()
    """Routes whose credential was turned away since it last worked."""

    def usable(self, route: Route) -> bool:
        """Tell whether a credential may still be worth trying."""
        return route not in self.refused and not (route is Route.ACTIVE and self.expired)


NOTHING_SPECIAL = Facts()


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeKey:
    """Make a key pair, durably, and come back with `KeyMade`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetKey:
    """Destroy a key that the record no longer names."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Ask something; at recovery, `confirm` speaks for the pending slot, all else for the active one."""

    ask: Ask
    route: Route


Action: TypeAlias = MakeKey | ForgetKey | Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Boot, a timer, or the end of a back-off."""

    facts: Facts = NOTHING_SPECIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofGiven:
    """Somebody gave the device a code, or a claim certificate, to enroll by."""

    proof: Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRefused:
    """The server will not take the proof that this pending key was made for: it is wrong, or was used."""

    key_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMade:
    """A key pair is in the key store."""

    key: str
    key_hash: str
    facts: Facts = NOTHING_SPECIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLost:
    """A key is gone for good: the key store answers, and does not have it."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A certificate came, and `acceptance` found its chain, identity and times good."""

    credential: Credential
    anchors: tuple[Anchor, ...]
    """Those that its chain proved: trusted before, or linked to one that was."""
    attempt_floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The server made the certificate the current one."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """The server gave up the certificate of this key, or will never give it one."""

    key_hash: str
    attempt_floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disowned:
    """The server has never heard of this certificate: its database is older."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneAck:
    """The server knows that older slots are gone."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """The server's answer to `status`."""

    serial: str
    state: ReportedState
    renew_after: datetime | None = None
    """The server's wish, which a notice may not have brought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A problem, a refusal, a time-out, or an answer that was not acceptable."""


Own: TypeAlias = Tick | ProofGiven | KeyMade | KeyLost
"""What happens on the device itself."""
Heard: TypeAlias = ProofRefused | Answer | Confirmed | Dead | Disowned | DoneAck | Reported | Failed
"""What came of a question."""
Event: TypeAlias = Own | Heard


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The record to write, if it changed, and then what to do, in this order."""

    record: DeviceRecord
    actions: tuple[Action, ...] = ()
