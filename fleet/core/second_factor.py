"""Time-based one-time codes of people (RFC 6238): which step a code is of, and whether it counts.

A code counts once, and none before it counts after it; a few wrong ones in a row, and none counts any more.
"""

import hmac
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import pyotp

from device_agent.wire.secret import Secret

SECRET_BYTES = 20
"""RFC 4226 4, R6: 160 bits, as long as the hash that authenticator apps have."""
STEP_SECONDS = 30
DIGITS = 6
DRIFT_STEPS = 1
"""RFC 6238 5.2: a clock may be one step off, in each direction."""
MOST_WRONG = 10
"""Wrong codes in a row, after which nothing but another operator helps: 10 of a million, three at a time."""


class CodeVerdict(StrEnum):
    """What becomes of a code that somebody types."""

    RIGHT = "right"
    WRONG = "wrong"
    REPLAYED = "replayed"
    """It was right, and it, or a later one, was used before."""
    LOCKED = "locked"
    """Too many were wrong; this one was not even looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorState:
    """What is remembered of somebody's codes."""

    last_step: int = -1
    """Of the last code that counted (RFC 6238 5.2)."""
    wrong: int = 0
    """How many in a row were wrong."""


def judge_code(
    secret: Secret, code: str, *, at: datetime, state: FactorState
) -> tuple[CodeVerdict, FactorState]:
    """Judge a code by the base32 secret that it should be of; return the verdict, and what to remember."""
    if state.wrong >= MOST_WRONG:
        return CodeVerdict.LOCKED, state
    steps = _steps_of(secret, code, at=at)
    fresh = [step for step in steps if step > state.last_step]
    if fresh:
        return CodeVerdict.RIGHT, FactorState(last_step=max(fresh))
    # A replay counts as wrong: whoever looked over a shoulder gets no free tries.
    verdict = CodeVerdict.REPLAYED if steps else CodeVerdict.WRONG
    return verdict, replace(state, wrong=state.wrong + 1)


def _steps_of(secret: Secret, code: str, *, at: datetime) -> list[int]:
    """Return the steps near a time whose code it is; all are looked at, each in constant time."""
    otp = pyotp.TOTP(secret.reveal(), digits=DIGITS, interval=STEP_SECONDS)
    now = int(at.timestamp()) // STEP_SECONDS
    near = range(max(0, now - DRIFT_STEPS), now + DRIFT_STEPS + 1)
    return [
        step for step in near if hmac.compare_digest(otp.generate_otp(step).encode(), _digits(code).encode())
    ]


def _digits(code: str) -> str:
    """Return a code as apps write it, without the gap that many show in its middle."""
    return code.strip().replace(" ", "")


def enrollment_uri(secret: Secret, *, name: str, fleet: str) -> str:
    """Return the secret as authenticator apps take it in: an otpauth URI, which is as secret as itself."""
    otp = pyotp.TOTP(secret.reveal(), digits=DIGITS, interval=STEP_SECONDS)
    return otp.provisioning_uri(name=name, issuer_name=f"fleet {fleet}")


class CodedAct(StrEnum):
    """Acts over a connection for which the configuration may ask a code beside the certificate."""

    REVOKE = "revoke"
    RETIRE = "retire"
    APPROVE = "approve"
    """Agreeing to what another operator proposed, and letting one back in."""
    OPERATOR = "operator"
    """Adding and removing operators, and resetting their second factors; adding stations and backends."""
    AUTHORITY = "authority"
    """Giving up CAs, and the steps of a rollover."""
    POLICY = "policy"
