"""Keeps what was proved of a device when it was admitted, for those who ask later why it is trusted."""

from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.applicants import Admitted, Applicant
from fleet.store import audit
from fleet.store.proofs import ProofRecord, keep_proof


async def note_proof(tx: Transaction, admitted: Admitted, applicant: Applicant, *, actor: str) -> None:
    """Put an admission on record, in the commit that makes use of it."""
    identity, proven = admitted.device.identity, admitted.proven
    record = ProofRecord(
        identity=identity,
        key_hash=applicant.key_hash,
        kind=admitted.kind,
        assurance=proven.assurance,
        evidence=proven.evidence,
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
            ("assurance", proven.assurance.word),
            ("evidence", proven.evidence),
        ),
    )
    await audit.append(tx, entry)
