"""Records who was refused and why, as far as that cannot be used to fill the disk."""

import logging

from device_agent.wire.messages import Request
from device_agent.wire.requests import Enroll
from fleet.errors import FleetError, RefusedError
from fleet.model import AuditEntry
from fleet.ra.context import Asker, Context
from fleet.store import audit

_log = logging.getLogger(__name__)


async def record_refusal(context: Context, asker: Asker, request: Request, error: RefusedError) -> None:
    """Put a refusal on the audit trail, unless this address, or this listener of MQTT, has had its share."""
    now = context.clock()
    device_id = request.device_id if isinstance(request, Enroll) else ""
    if asker.identity is not None:
        device_id = asker.identity.device_id
    if not context.by_address.allow(f"refused {asker.listener} {asker.address}", now=now):
        return
    details = (
        ("request", request.kind),
        ("listener", asker.listener.value),
        ("code", error.code.value),
        ("reason", str(error)),
        ("address", asker.address),
    )
    entry = AuditEntry(
        at=now,
        action="request.refused",
        actor="unknown" if asker.identity is None else f"device:{asker.identity.name}",
        domain="" if asker.identity is None else asker.identity.domain,
        device_id=device_id,
        serial="" if asker.certificate is None else asker.certificate.serial,
        details=tuple((name, value) for name, value in details if value),
    )
    try:
        await context.store.write(audit.append, entry)
    except FleetError as failure:
        _log.warning("a refusal could not be recorded: %s", failure)
