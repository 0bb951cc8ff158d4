"""What admitted each key of a device, and how well it was proved; kept for those who ask later."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.model import Assurance
from fleet.ports import Transaction
from fleet.store import columns, times
from fleet.store.codes import GrantKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRecord:
    """One admission; `evidence` says in words by what."""

    identity: Identity
    key_hash: str
    kind: GrantKind
    assurance: Assurance
    evidence: str
    proved_at: datetime


async def keep_proof(tx: Transaction, proof: ProofRecord) -> None:
    """Remember what admitted a key; the first stands, but for a better one."""
    known = await tx.fetch_one(
        "SELECT assurance FROM proofs WHERE domain = ? AND device_id = ? AND key_hash = ?", _key(proof)
    )
    if known is not None and Assurance[columns.text(known[0]).upper()] >= proof.assurance:
        return
    await tx.execute(
        "INSERT INTO proofs (domain, device_id, key_hash, kind, assurance, evidence, proved_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (domain, device_id, key_hash) DO UPDATE SET"
        " kind = excluded.kind, assurance = excluded.assurance, evidence = excluded.evidence,"
        " proved_at = excluded.proved_at",
        (
            *_key(proof),
            proof.kind.value,
            proof.assurance.word,
            proof.evidence,
            times.text(proof.proved_at),
        ),
    )


async def proofs_of(tx: Transaction, identity: Identity) -> tuple[ProofRecord, ...]:
    """Return what admitted the keys of a device, the oldest first."""
    rows = await tx.fetch_all(
        "SELECT key_hash, kind, assurance, evidence, proved_at FROM proofs"
        " WHERE domain = ? AND device_id = ? ORDER BY proved_at, key_hash",
        (identity.domain, identity.device_id),
    )
    return tuple(
        ProofRecord(
            identity=identity,
            key_hash=columns.text(key_hash),
            kind=GrantKind(columns.text(kind)),
            assurance=Assurance[columns.text(assurance).upper()],
            evidence=columns.text(evidence),
            proved_at=times.moment(proved_at),
        )
        for key_hash, kind, assurance, evidence, proved_at in rows
    )


def _key(proof: ProofRecord) -> tuple[str, str, str]:
    return (proof.identity.domain, proof.identity.device_id, proof.key_hash)
