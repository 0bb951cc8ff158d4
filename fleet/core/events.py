"""What can happen to a device's certificates, and what the server can say: the words of its tables.

Nothing here decides; `lifecycle` does.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from device_agent.wire.problems import ProblemCode
from fleet.model import ClientKind, Device


class Via(StrEnum):
    """How a certificate was shown."""

    ADMITTED = "admitted"
    """By TLS, to a listener that admits the allowlist only."""
    RECOVERY = "recovery"
    """By a fresh signature, or to a listener that takes expired and superseded ones as well."""


# What devices ask. `parent` and `serial` are what was shown, never what a body says. A `stamp` is the
# broker's latest when the request had arrived: later than the truth, never earlier.


@dataclass(frozen=True, slots=True, kw_only=True)
class Enroll:
    """A first certificate, admitted by a code (or any other grant) that stands in the record."""

    code_id: str
    key_hash: str
    kind: ClientKind | None = None
    """How its holder takes part from this certificate on; None: as is on record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """A next certificate; plain clients count no attempts."""

    parent: str
    key_hash: str
    attempt: int | None = None
    via: Via = Via.ADMITTED
    stamp: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """The certificate works; so do a station's COMMIT and AWS's RegisterThing say."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The device holds this certificate only."""

    serial: str
    stamp: int


# What brokers and clocks tell.


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The broker admitted it, at `stamp` in the broker's own order."""

    serial: str
    stamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The broker refused it, at `stamp` in the broker's own order."""

    serial: str
    stamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unconfirmed:
    """It was issued T_pending ago. Not told of a station's certificates: those may lie in a box for years."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """Its notAfter has passed."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraceOver:
    """Its time to be renewed after expiry has passed."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueStamped:
    """The broker's latest stamp, read after the certificate was issued; told of plain clients only."""

    serial: str
    stamp: int


# What operators do.


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend:
    """Keep the device out for now; nothing is revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Let it in again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """Revoke all that the device has, and close what could get it more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Admit one key once, by a new code or another grant; a `key_hash` binds it at once."""

    code_id: str
    key_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCode:
    """Take a grant back."""

    code_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryOn:
    """The alarm was no clone: the same device goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """A clone, a thief of a code, or a wiped unit: revoke all, and admit one new key by a fresh code."""

    code_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DismissConflict:
    """The key that holds the code is the right one."""


Request: TypeAlias = Enroll | Renew | Confirm | Done
Report: TypeAlias = Connected | Refused | Unconfirmed | Expired | GraceOver | IssueStamped
Act: TypeAlias = Suspend | Resume | Revoke | Grant | CloseCode | CarryOn | Replace | DismissConflict
Event: TypeAlias = Request | Report | Act


# What the server says.


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Sign a certificate: record the intent first."""

    key_hash: str
    parent: str | None = None
    attempt: int = 0
    code_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The certificate that was signed is now known: deliver it."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Deliver the same certificate as before."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """It is the current one."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneAck:
    """Older ones are known to be gone."""

    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """No certificate of this key will work: start again with another key, above the floor."""

    key_hash: str
    attempt_floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """The asker gets a problem, and loses nothing by it."""

    code: ProblemCode
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Nobody waits for an answer."""


Verdict: TypeAlias = Issue | Issued | Replay | Confirmed | DoneAck | Dead | Nothing | Noted


class Notice(StrEnum):
    """What an operator must be told."""

    STALE_HANDSHAKE = "stale-handshake"
    """E1: a certificate was shown whose device had said that it was gone: a rollback or a clone."""
    CLONE = "clone"
    """E2: two lines of one device are alive."""
    ATTEMPT_REUSED = "attempt-reused"
    """E3: two keys for one attempt: a rollback or a clone."""
    CODE_CONFLICT = "code-conflict"
    """A second key came with a code: one of the two is not the device's."""
    TOO_MANY_UNUSED = "too-many-unused"
    """A plain client asks on and on, and uses nothing of what it gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The device to be saved, whatever the verdict, and what to say."""

    device: Device
    verdict: Verdict
    notice: Notice | None = None


def noted(device: Device, notice: Notice | None = None) -> Decision:
    """Return the device, and no answer to anybody."""
    return Decision(device=device, verdict=Noted(), notice=notice)


def refuse(device: Device, code: ProblemCode, reason: str) -> Decision:
    """Return the device as it is, and a problem for the asker."""
    return Decision(device=device, verdict=Nothing(code=code, reason=reason))


def frozen(device: Device) -> Decision:
    """Return the answer to whoever wants a new certificate while an alarm stands."""
    return refuse(device, ProblemCode.FROZEN, "frozen by an alarm until an operator decides")
