"""The request for each thing that the table asks: what of the record goes into it.

The same record gives the same request, but for its id: whoever answers may be asked again.
"""

from device_agent.core.csr import csr_pem
from device_agent.core.events import Ask
from device_agent.core.stored import StoredRecord
from device_agent.errors import NotEnrolledError
from device_agent.wire.requests import Confirm, Done, Enroll, Renew, Request, StatusQuery


def request_for(ask: Ask, record: StoredRecord, *, message_id: str) -> Request:
    """Return the request.

    Raises:
        NotEnrolledError: the record has nothing to ask by.
    """
    match ask:
        case Ask.ENROLL if record.bootstrap is None or not record.bootstrap.domain:
            return _enroll(record, message_id)
        case Ask.ENROLL | Ask.RENEW:  # of an adopted certificate the first one is a renewal
            return _renew(record, message_id)
        case Ask.CONFIRM:
            return Confirm(id=message_id)
        case Ask.DONE:
            return Done(id=message_id, anchors=_anchors(record), trust=record.trust_versions)
        case Ask.STATUS:
            return StatusQuery(id=message_id)


def _enroll(record: StoredRecord, message_id: str) -> Enroll:
    if record.life.proof is None:
        raise NotEnrolledError("there is no code and no claim to enroll by", hint="device-agent enroll")
    return Enroll(
        id=message_id,
        device_id=record.device_id,
        csr=csr_pem(record.csr),
        anchors=_anchors(record),
        proof=record.life.proof,
    )


def _renew(record: StoredRecord, message_id: str) -> Renew:
    pending = record.life.pending
    if pending is None:
        raise NotEnrolledError("no certificate is on its way", hint="device-agent enroll")
    return Renew(
        id=message_id,
        csr=csr_pem(record.csr),
        # The server knows a device of EST as one that counts no attempts.
        attempt=pending.attempt if record.est is None else None,
        anchors=_anchors(record),
        trust=record.trust_versions,
    )


def _anchors(record: StoredRecord) -> tuple[str, ...]:
    return tuple(anchor.fingerprint for anchor in record.life.anchors)
