"""What the server says when it does not do what it was asked, and when to ask again.

A device never deletes anything because of a problem.
"""

from enum import StrEnum


class MalformedMessageError(ValueError):
    """Bytes from outside that are not a message of this contract. Its text never repeats them."""


class Retry(StrEnum):
    """When the same request may succeed."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


class ProblemCode(StrEnum):
    """Every code that a `problem` can carry; device, server and CLI use the same words."""

    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    UNSUPPORTED_VERSION = "unsupported-version"
    UNSUPPORTED_TYPE = "unsupported-type"
    BAD_CSR = "bad-csr"
    BAD_KEY = "bad-key"
    KEY_IN_USE = "key-in-use"
    BAD_IDENTITY = "bad-identity"
    NOT_ALLOWED = "not-allowed"
    CODE_INVALID = "code-invalid"
    CODE_CONFLICT = "code-conflict"
    NOT_CURRENT = "not-current"
    UNKNOWN_DEVICE = "unknown-device"
    REVOKED = "revoked"
    SUSPENDED = "suspended"
    FROZEN = "frozen"
    BUSY = "busy"
    RATE_LIMITED = "rate-limited"
    UNAVAILABLE = "unavailable"


RETRY_ADVICE: dict[ProblemCode, Retry] = {
    ProblemCode.MALFORMED: Retry.NEVER,
    ProblemCode.TOO_LARGE: Retry.NEVER,
    ProblemCode.UNSUPPORTED_VERSION: Retry.NEVER,
    ProblemCode.UNSUPPORTED_TYPE: Retry.NEVER,
    ProblemCode.BAD_CSR: Retry.NEVER,
    ProblemCode.BAD_KEY: Retry.NEVER,
    ProblemCode.KEY_IN_USE: Retry.NEVER,
    ProblemCode.BAD_IDENTITY: Retry.NEVER,
    ProblemCode.NOT_ALLOWED: Retry.NEVER,
    ProblemCode.CODE_INVALID: Retry.NEVER,
    ProblemCode.CODE_CONFLICT: Retry.NEVER,
    ProblemCode.NOT_CURRENT: Retry.LATER,
    ProblemCode.UNKNOWN_DEVICE: Retry.NEVER,
    ProblemCode.REVOKED: Retry.NEVER,
    ProblemCode.SUSPENDED: Retry.LATER,
    ProblemCode.FROZEN: Retry.LATER,
    ProblemCode.BUSY: Retry.LATER,
    ProblemCode.RATE_LIMITED: Retry.LATER,
    ProblemCode.UNAVAILABLE: Retry.LATER,
}
"""One row a code; an operator's act may turn a `never` round, so a device keeps what it holds."""
