"""Ends what was handed out on AWS topics and never registered, and tells of each step on the audit trail."""

from datetime import datetime

from fleet.model import AuditEntry, CertificateState
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.judging import signed_details
from fleet.store import audit, provisioning, revocations
from fleet.store.certificates import SignedCertificate
from fleet.store.provisioning import Provisioned, ProvisionedState


async def lapse(tx: Transaction, provisioned: Provisioned, *, at: datetime) -> None:
    """End a certificate that nobody registered: its token is worth nothing, and the public list names it."""
    await provisioning.end(tx, provisioned.serial, ProvisionedState.LAPSED)
    ending = revocations.Ending(
        issuer=provisioned.issuer,
        serial=provisioned.serial,
        state=CertificateState.VOID,
        reason=None,
        not_after=None if provisioned.signed is None else provisioned.signed.not_after,
        at=at,
    )
    await revocations.record(tx, ending)
    await tell(tx, provisioned, "provisioning.lapsed", at=at)


async def tell(
    tx: Transaction,
    provisioned: Provisioned,
    action: str,
    *,
    at: datetime,
    signed: SignedCertificate | None = None,
) -> None:
    """Put what becomes of such a certificate on the audit trail."""
    details = (
        ("key_hash", provisioned.key_hash),
        ("claim", provisioned.claim_serial),
        *(signed_details(signed) or (("issuer", provisioned.issuer),)),
    )
    entry = AuditEntry(
        at=at,
        action=action,
        actor="server" if action == "provisioning.lapsed" else f"device:{provisioned.identity.name}",
        domain=provisioned.identity.domain,
        device_id=provisioned.identity.device_id,
        serial=provisioned.serial,
        details=details,
    )
    await audit.append(tx, entry)


async def lapse_unregistered(context: Context) -> None:
    """End what nobody registered within its hour."""
    while await context.store.write(_lapse_due, context.clock()):
        context.crls.note_superseded()


async def _lapse_due(tx: Transaction, now: datetime) -> int:
    due = await provisioning.lapsing(tx, now)
    for provisioned in due:
        await lapse(tx, provisioned, at=now)
    return len(due)
