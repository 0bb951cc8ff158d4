"""The one interface of all proofs: what is claimed goes in, what was proved of it comes out, or a refusal.

A verifier holds the evidence and what is on file about it, frozen; it reads no store and no clock. It says
how well something was proved, never whether that is enough: a profile does.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from device_agent.wire.problems import ProblemCode
from fleet.core.things import Thing
from fleet.errors import RefusedError
from fleet.model import Assurance


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What every proof is measured against: this device asks, now, to have this key certified."""

    fleet: str
    domain: str
    device_id: str
    key_hash: str
    """Hex SHA-256 of the SubjectPublicKeyInfo of the request, whose owner has signed it."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a verifier found to be true."""

    assurance: Assurance
    evidence: str
    """For people: by which certificate, TPM or list."""
    names: str = ""
    """The device id that the evidence itself gives; empty where it names no device."""
    things: tuple[Thing, ...] = ()
    """By which of them lists may know the device."""
    tells_apart: bool = True
    """No other hardware proves itself in the same words: `evidence` is enough to know it again."""
    may_register: bool = False
    """Its maker may bring devices that nobody has registered."""


class Verifier(Protocol):
    """One proof."""

    def verify(self, statement: Statement, /) -> Proven:
        """Return what the evidence proves of a statement.

        Raises:
            RefusedError: it proves nothing of it; the text says which rule is broken.
        """
        ...


def refusal(message: str, code: ProblemCode = ProblemCode.NOT_ALLOWED) -> RefusedError:
    """Return the error for evidence that proves nothing."""
    return RefusedError(message, code=code)
