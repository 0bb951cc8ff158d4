"""Who asks on the topics of AWS, and the case that his questions make.

The broker proved which claim certificate stands behind a connection; which device it is, nobody knows yet.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.problems import ProblemCode
from device_agent.wire.secret import Secret
from fleet.core.csr import Csr
from fleet.core.serial import SERIAL_RANDOMNESS
from fleet.errors import RefusedError
from fleet.model import ClientKind
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.issuing import issuers_of
from fleet.ra.judging import Circumstances
from fleet.ra.requests.applicants import Applicant, ClaimProof
from fleet.ra.requests.enrolling import EnrollCase
from fleet.ra.requests.rulings import question_of
from fleet.ra.shown import ShownCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Who asks, as the broker proved it."""

    claim: ShownCertificate
    client_id: str
    """As the client chose it: for people to read, and proof of nothing."""
    connection: str

    @property
    def asker(self) -> Asker:
        return Asker(
            listener=Listener.PROVISIONING,
            client_id=self.client_id,
            certificate=self.claim,
            kind=ClientKind.PLAIN,
        )


def require_room(context: Context, requester: Requester, *, now: datetime) -> None:
    """Refuse a connection that asks too often; raises `RefusedError`."""
    if not context.by_device.allow(f"provisioning {requester.connection}", now=now):
        raise RefusedError("too many requests by this connection", code=ProblemCode.RATE_LIMITED)


def case_of(context: Context, requester: Requester, csr: Csr, *, now: datetime) -> EnrollCase:
    """Return the case of a claim's client; which device it is, the unit of work finds out."""
    applicant = Applicant(
        device_id="", key_hash=csr.key_hash, proof=ClaimProof(shown=requester.claim), address="", at=now
    )
    circumstances = Circumstances(
        at=now,
        actor="server",
        randomness=context.randomness(SERIAL_RANDOMNESS),
        issuers=issuers_of(context),
    )
    return EnrollCase(
        applicant=applicant,
        question=question_of(context.config, requester.asker, csr, at=now),
        circumstances=circumstances,
        kind=ClientKind.PLAIN,
        asks_webhook=context.webhook is not None,
    )


def token_hash(token: Secret) -> str:
    """Return the SHA-256 of a token, hex: it has 256 random bits, nobody can try them all."""
    return hashlib.sha256(token.reveal().encode("utf-8", "replace")).hexdigest()
