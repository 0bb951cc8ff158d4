"""A one-time code: whoever has it was given it for one device, and nothing is known of the key."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.attest.proof import Proven, Statement, refusal
from fleet.errors import RefusedError
from fleet.model import Assurance


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeVerifier:
    """What is on file about a code that was found by its hash."""

    of: Identity
    is_bound: bool
    """A key came with it already: the core tells that key from any other."""
    expires_at: datetime | None

    def verify(self, statement: Statement) -> Proven:
        """Return what the code proves; raises `RefusedError`."""
        if self.of != Identity(domain=statement.domain, device_id=statement.device_id):
            raise wrong_code()
        # A bound code is judged by the core: its own key gets the same answer again, even late.
        if not self.is_bound and self.expires_at is not None and self.expires_at <= statement.at:
            raise refusal("the code has expired", ProblemCode.CODE_INVALID)
        return Proven(assurance=Assurance.CODE, evidence="a one-time code", names=self.of.device_id)


def wrong_code() -> RefusedError:
    """Return the refusal of a code that is nobody's, or somebody else's: an asker learns not which."""
    return refusal("the code is not one for this device", ProblemCode.CODE_INVALID)
