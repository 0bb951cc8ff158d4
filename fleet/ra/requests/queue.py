"""Requests that wait for somebody's approval: how they come into the queue, and what ends them by itself.

Each is one device with one key; people compare a short code that is derived from the key.
"""

import hashlib
import re
from datetime import datetime, timedelta

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core.crockford import spelled
from fleet.model import Assurance
from fleet.ports import Transaction
from fleet.ra.requests.applicants import Applicant, Waits, refused
from fleet.store import waiting
from fleet.store.codes import GrantKind
from fleet.store.waiting import Waiting

MAX_WAITING = 1000
"""Requests that wait behind one claim certificate, or without one; more are told to come back."""
LIFETIME = timedelta(days=7)
"""A request that nobody decided on is forgotten after it, and so is a rejection: the device may ask anew."""
RETRY_AFTER_SECONDS = 30

SHORT_CODE = re.compile(r"[0-9A-HJKMNP-TV-Z]{4}-?[0-9A-HJKMNP-TV-Z]{4}", re.ASCII)
"""How people may write a short code, in upper case."""


def short_code(key_hash: str) -> str:
    """Return what people compare: 40 bits of the key's hash, Crockford base32, two groups of four.

    It is derived from the key, so that both sides know it and nobody in between can choose it.
    """
    digest = hashlib.sha256(b"fleet-pending\0" + bytes.fromhex(key_hash)).digest()
    return spelled(digest, signs=8)


async def wait_for_approval(
    tx: Transaction,
    applicant: Applicant,
    identity: Identity,
    *,
    reason: str,
    claim_serial: str = "",
    kind: GrantKind = GrantKind.CLAIM,
    assurance: Assurance = Assurance.NONE,
    evidence: str = "",
) -> Waits:
    """Put a request in the queue, or find it there; nobody but an operator takes it out.

    Raises:
        RefusedError: an operator has rejected it, or the queue is full.
    """
    known = await waiting.find_waiting(tx, identity, applicant.key_hash)
    if known is not None and not is_over(known, at=applicant.at):
        if known.rejected_at is not None:
            raise refused(ProblemCode.NOT_ALLOWED, f"the request was rejected by {known.rejected_by}")
        return Waits(short_code=known.short_code)
    if await waiting.count_waiting(tx, claim_serial) >= MAX_WAITING:
        raise refused(ProblemCode.BUSY, "too many devices wait for approval")
    request = Waiting(
        identity=identity,
        key_hash=applicant.key_hash,
        short_code=short_code(applicant.key_hash),
        claim_serial=claim_serial,
        address=applicant.address,
        asked_at=applicant.at,
        kind=kind,
        assurance=assurance,
        evidence=evidence,
        reason=reason,
    )
    await waiting.keep_waiting(tx, request)
    return Waits(short_code=request.short_code)


def is_over(request: Waiting, *, at: datetime) -> bool:
    """Tell whether a request, or its rejection, counts no longer."""
    return ends_at(request) <= at


def ends_at(request: Waiting) -> datetime:
    """Return when a request is forgotten."""
    return (request.rejected_at or request.asked_at) + LIFETIME
