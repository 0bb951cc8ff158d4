"""Records who was refused and why, as far as that cannot be used to fill the disk."""

import logging

from device_agent.wire.messages import Request
from device_agent.wire.requests import Enroll
from device_agent.wire.steps import STEPS
from fleet.core import events
from fleet.core.ruling import Outcome
from fleet.errors import FleetError, RefusedError, problem_code
from fleet.model import AuditEntry
from fleet.ports import Transaction, Work
from fleet.ra.context import Asker, Context
from fleet.ra.judging import Circumstances, Judged
from fleet.store import audit
from fleet.store.requests import RequestRecord, keep_request

_log = logging.getLogger(__name__)


async def record_refusal(context: Context, asker: Asker, request: Request, error: RefusedError) -> None:
    """Put a refusal on the audit trail, unless this device, address or MQTT listener has had its share."""
    device_id = request.device_id if isinstance(request, Enroll) else ""
    if asker.identity is not None:
        device_id = asker.identity.device_id
    details = (
        ("request", request.kind),
        ("listener", asker.listener.value),
        ("code", error.code.value),
        ("step", STEPS[error.code].value),
        ("reason", str(error)),
        ("address", asker.address),
        ("request_id", request.id),
    )
    entry = AuditEntry(
        at=context.clock(),
        action="request.refused",
        actor="unknown" if asker.identity is None else f"device:{asker.identity.name}",
        domain="" if asker.identity is None else asker.identity.domain,
        device_id=device_id,
        serial="" if asker.certificate is None else asker.certificate.serial,
        details=tuple((name, value) for name, value in details if value),
    )
    who = asker.address if asker.identity is None else asker.identity.name
    await _record(context, entry, who=f"{asker.listener} {who}", work=_keep_refusal)


async def record_provisioning_refusal(
    context: Context, asker: Asker, act: str, error: FleetError, *, connection: str
) -> None:
    """Put a refusal on the topics of AWS on the audit trail, unless the connection has had its share."""
    claim = "" if asker.certificate is None else asker.certificate.serial
    details = (
        ("request", act),
        ("listener", asker.listener.value),
        ("code", problem_code(error).value),
        ("reason", str(error)),
        ("client", asker.client_id),
    )
    entry = AuditEntry(
        at=context.clock(),
        action="request.refused",
        actor="unknown",
        serial=claim,
        details=tuple((name, value) for name, value in details if value),
    )
    await _record(context, entry, who=connection)


async def record_station_refusal(context: Context, asker: Asker, what: str, error: RefusedError) -> None:
    """Put who asked what only a station may on the audit trail, unless the address had its share."""
    shown = asker.certificate
    details = (
        ("request", what),
        ("listener", asker.listener.value),
        ("code", error.code.value),
        ("reason", str(error)),
        ("address", asker.address),
    )
    entry = AuditEntry(
        at=context.clock(),
        action="request.refused",
        actor="unknown",
        serial="" if shown is None else shown.serial,
        details=tuple((name, value) for name, value in details if value),
    )
    await _record(context, entry, who=f"{asker.listener} {asker.address}")


async def record_judged(context: Context, judged: Judged, circumstances: Circumstances) -> None:
    """Put the core's refusal on the audit trail, unless the device has had its share."""
    if judged.is_on_record or not isinstance(judged.verdict, events.Nothing):
        return
    identity, verdict = judged.identity, judged.verdict
    details = (
        ("request", judged.asked),
        ("code", verdict.code.value),
        ("step", STEPS[verdict.code].value),
        ("reason", verdict.reason),
        ("address", circumstances.address),
    )
    entry = AuditEntry(
        at=circumstances.at,
        action="request.refused",
        actor=circumstances.actor,
        domain="" if identity is None else identity.domain,
        device_id="" if identity is None else identity.device_id,
        details=tuple((name, value) for name, value in details if value),
    )
    await _record(context, entry, who=circumstances.address if identity is None else identity.name)


async def _keep_refusal(tx: Transaction, entry: AuditEntry) -> int | None:
    """Put a request that no profile was asked about on both records."""
    details = dict(entry.details)
    record = RequestRecord(
        at=entry.at,
        outcome=Outcome.REFUSED,
        domain=entry.domain,
        device_id=entry.device_id,
        code=details.get("code", ""),
        reason=details.get("reason", ""),
    )
    await keep_request(tx, record)
    return await audit.append(tx, entry)


async def _record(
    context: Context, entry: AuditEntry, *, who: str, work: Work[AuditEntry, int | None] = audit.append
) -> None:
    if not context.by_address.allow(f"refused {who}", now=context.clock()):
        return
    try:
        await context.store.write(work, entry)
    except FleetError as failure:
        _log.warning("a refusal could not be recorded: %s", failure)
