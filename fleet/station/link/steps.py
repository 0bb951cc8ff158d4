"""Steps of a station's session, and what passes between the session and its driver, as frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from device_agent.wire.factory import Rc
from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.framing import Framing
from fleet.model import KeyOrigin
from fleet.station.keeping.package import Package
from fleet.station.link.causes import Cause


class Step(StrEnum):
    """What the session is at. Steps in the past tense are the ends."""

    HELLO = "hello"
    CHECK = "check"
    """The line is noisy: who is there is asked twice, because nothing signs a HELLO."""
    RECOGNISE = "recognise"
    FORGET = "forget"
    """The unit drops the key that it was put aside with: it is asked for one of the id of nobody."""
    IDENT = "ident"
    READ = "read"
    ISSUE = "issue"
    WRITE = "write"
    INSTALL = "install"
    PROVE = "prove"
    RECORD_PROOF = "record-proof"
    COMMIT = "commit"
    RECORD_COMMIT = "record-commit"
    BYE = "bye"
    """Any call after COMMIT tells the unit that its answer arrived."""
    COMMITTED = "committed"
    QUARANTINED = "quarantined"
    HELD = "held"
    LOST = "lost"
    """The unit forgot the session, or is another: begin anew."""
    FAILED = "failed"
    SILENT = "silent"
    """Nobody answers HELLO."""


class Event(StrEnum):
    """What moves the session on."""

    ANSWERED = "answered"
    NOISY = "noisy"
    MORE = "more"
    COMPLETE = "complete"
    SPOILT = "spoilt"
    """It arrived otherwise than it was sent: again."""
    TOO_LONG = "too-long"
    """The line does not carry INSTALL with the station's chain in it."""
    BUSY = "busy"
    UNKNOWN_SESSION = "unknown-session"
    REFUSED = "refused"
    GONE = "gone"
    ENROL = "enrol"
    RESUME = "resume"
    ISSUED = "issued"
    ANEW = "anew"
    RECORDED = "recorded"
    HELD = "held"
    DOUBTED = "doubted"


NOBODY = "anew"
"""An id that is no unit's: IDENT keeps the key that was made for the same id, and makes one for another."""
KEPT_KEY = "it still has the key that it was put aside with: set it back to its factory state first"
"""Of a unit that does not make another one."""
_S, _E = Step, Event

CALLS = (_S.HELLO, _S.CHECK, _S.FORGET, _S.IDENT, _S.READ, _S.WRITE, _S.INSTALL, _S.PROVE, _S.COMMIT)
QUESTIONS = (_S.RECOGNISE, _S.ISSUE, _S.RECORD_PROOF, _S.RECORD_COMMIT)
ENDS = (_S.COMMITTED, _S.QUARANTINED, _S.HELD, _S.LOST, _S.FAILED, _S.SILENT)

STEPS: Mapping[tuple[Step, Event], Step] = {
    **{(step, _E.BUSY): step for step in CALLS},
    **{(step, _E.UNKNOWN_SESSION): _S.LOST for step in CALLS},
    **{(step, _E.REFUSED): _S.FAILED for step in (*CALLS, *QUESTIONS)},
    **{(step, _E.DOUBTED): _S.QUARANTINED for step in (*CALLS, *QUESTIONS)},
    **{(step, _E.HELD): _S.HELD for step in QUESTIONS},
    **{(step, _E.GONE): _S.FAILED for step in CALLS},
    (_S.HELLO, _E.GONE): _S.SILENT,
    (_S.HELLO, _E.NOISY): _S.CHECK,
    (_S.HELLO, _E.ANSWERED): _S.RECOGNISE,
    (_S.CHECK, _E.ANSWERED): _S.RECOGNISE,
    (_S.RECOGNISE, _E.ENROL): _S.IDENT,
    (_S.RECOGNISE, _E.RESUME): _S.PROVE,
    (_S.IDENT, _E.ANSWERED): _S.READ,
    (_S.READ, _E.MORE): _S.READ,
    (_S.READ, _E.SPOILT): _S.IDENT,
    (_S.READ, _E.COMPLETE): _S.ISSUE,
    (_S.ISSUE, _E.ISSUED): _S.WRITE,
    (_S.ISSUE, _E.ANEW): _S.FORGET,
    (_S.FORGET, _E.ANSWERED): _S.IDENT,
    (_S.WRITE, _E.MORE): _S.WRITE,
    (_S.WRITE, _E.SPOILT): _S.WRITE,
    (_S.WRITE, _E.COMPLETE): _S.INSTALL,
    (_S.INSTALL, _E.SPOILT): _S.WRITE,
    (_S.INSTALL, _E.TOO_LONG): _S.WRITE,
    (_S.INSTALL, _E.ANSWERED): _S.PROVE,
    (_S.PROVE, _E.SPOILT): _S.PROVE,
    (_S.PROVE, _E.ANSWERED): _S.RECORD_PROOF,
    (_S.RECORD_PROOF, _E.RECORDED): _S.COMMIT,
    (_S.COMMIT, _E.ANSWERED): _S.RECORD_COMMIT,
    (_S.RECORD_COMMIT, _E.RECORDED): _S.BYE,
    **{(_S.BYE, event): _S.COMMITTED for event in Event},
}
"""Any pair that is not here cannot happen; it would end the session as lost."""

REFUSALS: Mapping[int, Event] = {
    Rc.OFFSET: _E.SPOILT,
    Rc.STATE: _E.UNKNOWN_SESSION,
    Rc.HASH: _E.SPOILT,
    Rc.KEY_MISMATCH: _E.DOUBTED,
    Rc.SESSION: _E.UNKNOWN_SESSION,
    Rc.UNAUTHORISED: _E.REFUSED,
    Rc.BUSY: _E.BUSY,
    Rc.UNSUPPORTED: _E.REFUSED,
}
"""What a refusal means to the session; a number that is not here is REFUSED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Put this on the line, and call `timed_out` when nothing right came in so many seconds."""

    message: bytes
    framing: Framing
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Call `timed_out` in so many seconds: the unit is busy."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognise:
    """Which unit is this, and what is to be done with it?"""

    hello: HelloReply


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A certificate for this key; kept in the ledger before the answer."""

    hardware_id: str
    device_id: str
    csr: bytes
    key: KeyOrigin = KeyOrigin.DEVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProof:
    """The unit holds the key of what was installed: write it down."""

    hardware_id: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCommit:
    """The unit uses it from now on: write it down."""

    hardware_id: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The session is over; `step` is one of `ENDS`."""

    step: Step
    detail: str = ""
    cause: Cause = Cause.NONE


Question: TypeAlias = Recognise | Issue | RecordProof | RecordCommit
Effect: TypeAlias = Send | Wait | Question | End


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrol:
    """Answer to `Recognise`: give it this id and a certificate."""

    device_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Answer to `Recognise`: it holds this already; let it prove and commit."""

    device_id: str
    package: Package
    cause: Cause = Cause.NONE
    """`MADE_BEFORE` where it was committed already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anew:
    """Let the unit make another key first: this one was put aside, and nothing was committed with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """Answer to `Issue`."""

    package: Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Answer to `RecordProof` and `RecordCommit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Not now: the server cannot say. The unit stays as it is."""

    reason: str
    cause: Cause = Cause.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """This unit is not what it should be: quarantine."""

    reason: str
    cause: Cause = Cause.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Not with this station, or not with this unit; nothing is suspicious."""

    reason: str
    cause: Cause = Cause.NONE


Decision: TypeAlias = Enrol | Resume | Issued | Anew | Recorded | Hold | Doubt | Refuse
