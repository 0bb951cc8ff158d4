"""Keeps what was proved of a device when it was admitted, for those who ask later why it is trusted."""

from fleet.core.ruling import Facts
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.requests.applicants import Admitted, Applicant
from fleet.store import audit
from fleet.store.proofs import ProofRecord, keep_proof


async def note_proof(
    tx: Transaction, admitted: Admitted, applicant: Applicant, *, facts: Facts, actor: str
) -> None:
    """Put an admission on record, in the commit that makes use of it."""
    identity, evidence = admitted.device.identity, admitted.proven.evidence
    if facts.is_approved:
        evidence = f"{evidence}; somebody approved it"
    record = ProofRecord(
        identity=identity,
        key_hash=applicant.key_hash,
        kind=admitted.kind,
        assurance=facts.assurance,
        evidence=evidence,
        proved_at=applicant.at,
    )
    await keep_proof(tx, record)
    entry = AuditEntry(
        at=applicant.at,
        action="device.proved",
        actor=actor,
        domain=identity.domain,
        device_id=identity.device_id,
        details=(
            ("key_hash", applicant.key_hash),
            ("proof", admitted.kind.value),
            ("assurance", facts.assurance.word),
            ("evidence", evidence),
        ),
    )
    await audit.append(tx, entry)
