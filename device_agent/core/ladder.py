"""The ways back to a certificate that works, as a ladder: the lowest rung that can still help is the one.

A rung is what the last attempt has shown, together with what was known before: a server that is away
says nothing, so nothing is unlearned by it. It never decides what is asked: `lifecycle` does, and asks
at each rung below an operator's by itself.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from device_agent.wire.problems import ProblemCode


class Rung(StrEnum):
    """What a device needs, the least first."""

    CERTIFICATE = "certificate"
    """Nothing: a certificate that it holds opens connections, and is renewed by them."""
    OLD_KEY = "old-key"
    """Nothing but the server: the key of a certificate that is turned away still speaks at recovery."""
    OPERATOR = "operator"
    """An operator's decision: the device is suspended, or frozen by an alarm. Then it goes on by itself."""
    CODE = "code"
    """An operator's code: no key that it holds will be heard any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A rung above the ground, since when, and why, in the word of the status: a problem code or our own."""

    rung: Rung
    since: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the last attempt has shown."""

    admitted: bool = False
    """A certificate opened a connection, or may still do so."""
    has_key: bool = True
    """The key store has the key of the active certificate, or did not answer."""
    has_way_back: bool = True
    """The address of the recovery listener is known."""
    answer: ProblemCode | None = None
    """What the server said; None where it said nothing."""


_WAITS = frozenset({ProblemCode.SUSPENDED, ProblemCode.FROZEN})
_SPENT = frozenset({ProblemCode.NOT_CURRENT, ProblemCode.REVOKED, ProblemCode.UNKNOWN_DEVICE})
"""What the server says of a certificate that nothing comes from any more."""


def rung_of(shown: Shown, *, before: Rung) -> Rung:
    """Return the rung where a device stands after an attempt; `before` is where it stood."""
    if not shown.has_key:
        return Rung.CODE
    if shown.admitted:
        return Rung.CERTIFICATE
    if shown.answer in _WAITS:
        return Rung.OPERATOR
    if shown.answer in _SPENT or not shown.has_way_back:
        return Rung.CODE
    return Rung.OLD_KEY if before is Rung.CERTIFICATE else before


def need_of(standing: Standing, *, domain: str, device_id: str) -> str:
    """Return what is needed now, with commands as they are typed."""
    where = f"--domain {domain} --device {device_id}"
    match standing.rung:
        case Rung.CERTIFICATE:
            return "nothing"
        case Rung.OLD_KEY:
            return "nothing but the server: device-agent run asks with the key of the old certificate"
        case Rung.OPERATOR:
            return f"an operator's decision: fleet device resume {device_id} --domain {domain}"
        case Rung.CODE:
            return f"an operator's code: fleet claim create {where}, then here: device-agent recover"
