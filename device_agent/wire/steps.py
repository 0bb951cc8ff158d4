"""The steps on a device's way to a certificate, so that device, server and CLI name the failing one alike.

Each problem belongs to one step. A step says where to look; the problem says what was found there.
"""

from collections.abc import Mapping
from enum import StrEnum

from device_agent.wire.problems import ProblemCode


class Step(StrEnum):
    """In the order in which they are taken."""

    CONNECT = "connect"
    """The way to the server or broker, TLS, and who is let in."""
    ASK = "ask"
    """The request itself: its size, form and version."""
    IDENTIFY = "identify"
    """Who asks, and whether that is a device on record."""
    PROVE = "prove"
    """What lets it ask: a code, a claim, what its hardware shows."""
    KEY = "key"
    """The key and the request for a certificate of it."""
    ADMIT = "admit"
    """What policy and profiles say, and whether an operator approves."""
    STANDING = "standing"
    """Where device and certificate stand: current, suspended, revoked."""
    SIGN = "sign"
    """The server's own work: signing, records, brokers."""
    ACCEPT = "accept"
    """What the device makes of the certificate that came."""
    KEEP = "keep"
    """The device's own key and record."""


STEPS: Mapping[ProblemCode, Step] = {
    ProblemCode.MALFORMED: Step.ASK,
    ProblemCode.TOO_LARGE: Step.ASK,
    ProblemCode.UNSUPPORTED_VERSION: Step.ASK,
    ProblemCode.UNSUPPORTED_TYPE: Step.ASK,
    ProblemCode.BAD_CSR: Step.KEY,
    ProblemCode.BAD_KEY: Step.KEY,
    ProblemCode.KEY_IN_USE: Step.KEY,
    ProblemCode.BAD_IDENTITY: Step.IDENTIFY,
    ProblemCode.UNKNOWN_DEVICE: Step.IDENTIFY,
    ProblemCode.NOT_ALLOWED: Step.ADMIT,
    ProblemCode.RATE_LIMITED: Step.ADMIT,
    ProblemCode.CODE_INVALID: Step.PROVE,
    ProblemCode.CODE_CONFLICT: Step.PROVE,
    ProblemCode.NOT_CURRENT: Step.STANDING,
    ProblemCode.REVOKED: Step.STANDING,
    ProblemCode.SUSPENDED: Step.STANDING,
    ProblemCode.FROZEN: Step.STANDING,
    ProblemCode.BUSY: Step.SIGN,
    ProblemCode.UNAVAILABLE: Step.SIGN,
}
"""One row a code."""


def step_of(code: str) -> Step | None:
    """Return the step that a problem's code belongs to; None for a code of a later version."""
    return next((step for known, step in STEPS.items() if known.value == code), None)
