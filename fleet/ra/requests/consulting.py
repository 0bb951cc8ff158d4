"""What a webhook is asked about a request, and how its word gets on record."""

from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.requests.applicants import Admitted, Applicant
from fleet.ra.requests.rulings import Ruled
from fleet.ra.webhook import HookQuestion, HookSaid
from fleet.store import audit
from fleet.store.attributes import put_attributes
from fleet.store.devices import set_profile


def question_for(admitted: Admitted, ruled: Ruled, applicant: Applicant) -> HookQuestion:
    """Return what the webhook is asked about a request that would be signed next."""
    terms = ruled.ruling.terms
    return HookQuestion(
        identity=admitted.device.identity,
        key_hash=applicant.key_hash,
        kind=admitted.kind,
        assurance=ruled.facts.assurance,
        evidence=admitted.proven.evidence,
        batch=ruled.facts.batch,
        profile="" if terms is None else terms.profile.name,
        address=applicant.address,
    )


async def take_word(tx: Transaction, identity: Identity, said: HookSaid, *, at: datetime) -> None:
    """Put what the webhook said of a device on record, before the profiles are asked."""
    if said.profile:
        await set_profile(tx, identity, said.profile)
    await put_attributes(tx, identity, said.attributes, source="webhook")
    told = {**said.attributes, "profile": said.profile}
    entry = AuditEntry(
        at=at,
        action="device.enriched",
        actor="webhook",
        domain=identity.domain,
        device_id=identity.device_id,
        details=tuple((name, value) for name, value in sorted(told.items()) if value),
    )
    await audit.append(tx, entry)
