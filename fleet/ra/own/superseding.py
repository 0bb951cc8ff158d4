"""Ends certificates of our own that a newer one has replaced: good until then, on the lists from now on."""

from dataclasses import dataclass
from datetime import datetime

from fleet.model import AuditEntry, CertificateState, RevocationReason
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store import audit, certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseding:
    """Which ones end, and who has replaced them."""

    serials: tuple[str, ...]
    actor: str
    at: datetime


async def supersede(context: Context, ending: Superseding) -> None:
    """End certificates of ours; those that have ended otherwise stay as they are. Raises `FleetError`."""
    sequence = await context.store.write(supersede_own, ending)
    context.crls.note_superseded()
    if sequence is not None:
        await context.broker.reach(sequence)


async def supersede_own(tx: Transaction, ending: Superseding) -> int | None:
    """Do so in one commit; return the allowlist's new sequence number, if that changed."""
    newest: int | None = None
    for serial in ending.serials:
        record = await certificates.load_certificate(tx, serial)
        if record is None or record.state is not CertificateState.ACTIVE:
            continue
        sequence = await certificates.end_certificate(
            tx,
            serial,
            state=CertificateState.SUPERSEDED,
            reason=RevocationReason.SUPERSEDED,
            at=ending.at,
        )
        newest = newest if sequence is None else sequence
        details = (("purpose", record.purpose.value), ("name", record.name))
        entry = AuditEntry(
            at=ending.at,
            action="certificate.superseded",
            actor=ending.actor,
            domain=record.domain,
            serial=serial,
            details=details,
        )
        await audit.append(tx, entry)
    return newest
