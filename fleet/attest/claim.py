"""A claim certificate: a whole batch shares it, so it proves that somebody has one of its devices in hand."""

from dataclasses import dataclass
from datetime import datetime

from fleet.attest.proof import Proven, Statement, refusal
from fleet.model import Assurance


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimVerifier:
    """What is on file about the batch of a claim certificate that TLS has shown."""

    domain: str
    batch: str
    uses: int
    uses_allowed: int | None
    """0: the certificate grants nothing by itself. None: as often as ids are registered."""
    expires_at: datetime | None
    closed_at: datetime | None

    def verify(self, statement: Statement) -> Proven:
        """Return what the claim proves; raises `RefusedError`."""
        if self.domain != statement.domain:
            raise refusal("the claim certificate is of another domain")
        if self.closed_at is not None:
            raise refusal("the claim was closed")
        if self.uses_allowed == 0:
            raise refusal("this claim certificate grants nothing without a code")
        return Proven(assurance=Assurance.CLAIM, evidence=f"a claim certificate of batch {self.batch}")

    def require_room(self, statement: Statement) -> None:
        """Refuse one device more than the batch may have; those that it has are answered again."""
        if self.expires_at is not None and self.expires_at <= statement.at:
            raise refusal("the claim has expired")
        if self.uses_allowed is not None and self.uses >= self.uses_allowed:
            raise refusal("the claim was used as often as it may be")
