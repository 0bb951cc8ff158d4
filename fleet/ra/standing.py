"""Tells relying parties what a certificate is worth now: good, revoked, or none of ours (RFC 6960 2.2)."""

from dataclasses import dataclass
from datetime import timedelta

from fleet.ca import ocsp
from fleet.ca.issuer import issuer_id_of
from fleet.errors import BadInputError, FleetError
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store.certificates import load_certificate
from fleet.store.revocations import revocation_of

OCSP_LIFETIME = timedelta(minutes=10)
"""From thisUpdate to nextUpdate: how long somebody may go on believing an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    issuer: str
    serial: str


async def ocsp_answer(context: Context, body: bytes) -> bytes:
    """Return the response to an OCSP request; every malformed one gets a proper error response."""
    try:
        question = ocsp.read_request(body)
    except BadInputError:
        return ocsp.MALFORMED
    responder = context.authority.asked(question)
    if responder is None:
        return ocsp.UNAUTHORIZED
    try:
        asked = _Asked(issuer=issuer_id_of(responder.issuer), serial=question.serial)
        standing = await context.store.read(_standing, asked)
        now = context.clock()
        return responder.answer(question, standing, this_update=now, next_update=now + OCSP_LIFETIME)
    except FleetError:
        return ocsp.TRY_LATER


async def _standing(tx: Transaction, asked: _Asked) -> ocsp.Standing:
    row = await load_certificate(tx, asked.serial)
    if row is None or row.issuer != asked.issuer:
        return ocsp.Unknown()
    revocation = await revocation_of(tx, asked.serial)
    if revocation is not None:
        return ocsp.Revoked(at=revocation.revoked_at, reason=revocation.reason)
    # An intent that nobody has seen signed is not yet issued; after a crash it stands revoked.
    return ocsp.Good() if row.signed is not None else ocsp.Unknown()
