"""Tells relying parties what a certificate is worth now: good, held, revoked, or not ours (RFC 6960 2.2)."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.ca import ocsp
from fleet.ca.issuer import issuer_id_of
from fleet.ca.ocsp import Responder, Standing, Validity
from fleet.ca.ocsp_request import Request, read_request
from fleet.errors import BadInputError, FleetError
from fleet.model import RevocationReason
from fleet.ports import Row, Transaction
from fleet.ra.context import Context
from fleet.ra.kept_answers import Answer, Keeping
from fleet.store import columns, times

OCSP_LIFETIME = timedelta(minutes=10)
"""From thisUpdate to nextUpdate: how long somebody may go on believing an answer."""
_SERVES = OCSP_LIFETIME / 2
"""How long a signed answer is handed out again."""
_LONGEST_KEPT = 255
"""Octets of a question whose answer is kept: what clients send by GET (RFC 5019 5)."""
_TAG_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    issuer: str
    serials: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """What the store says of a certificate; `not_after` is None for one that nobody has seen signed."""

    not_after: datetime | None = None
    revoked_at: datetime | None = None
    reason: RevocationReason = RevocationReason.UNSPECIFIED


async def ocsp_answer(context: Context, body: bytes) -> Answer:
    """Return the response to an OCSP request; every malformed one gets a proper error response."""
    kept = context.crls.answers.find(body, now=context.clock())
    if kept is not None:
        return kept
    try:
        request = read_request(body)
    except BadInputError:
        return Answer(der=ocsp.MALFORMED)
    responder = _responder_of(context, request)
    if responder is None:
        return Answer(der=ocsp.UNAUTHORIZED)
    try:
        return await _signed(context, body, request, responder)
    except FleetError:
        return Answer(der=ocsp.TRY_LATER)


def _responder_of(context: Context, request: Request) -> Responder | None:
    """Return who speaks for the CA that all questions are about: nobody signs for two."""
    responder = context.authority.asked(request.questions[0])
    if responder is None or not all(responder.speaks_for(one) for one in request.questions[1:]):
        return None
    return responder


async def _signed(context: Context, body: bytes, request: Request, responder: Responder) -> Answer:
    answers = context.crls.answers
    changes = answers.changes
    serials = tuple(question.serial for question in request.questions)
    asked = _Asked(issuer=issuer_id_of(responder.issuer), serials=serials)
    found = await context.store.read(_standings, asked)
    now = context.clock()
    known_since = responder.issuer.not_valid_before_utc
    told = [_told(one, now, known_since) for one in found]
    validity = Validity(this_update=now.replace(microsecond=0), next_update=now + OCSP_LIFETIME)
    der = responder.answer(request, told, validity=validity)
    answer = Answer(
        der=der,
        this_update=validity.this_update,
        next_update=validity.next_update,
        tag=hashlib.sha256(der).hexdigest()[:_TAG_DIGITS],
    )
    # An unknown one may be issued at any time, and nobody asks twice with the same nonce.
    is_lasting = request.nonce is None and not any(isinstance(one, ocsp.Unknown) for one in told)
    if is_lasting and len(body) <= _LONGEST_KEPT:
        ends = [one.not_after for one in found if one.not_after is not None and one.not_after > now]
        keeping = Keeping(until=min([now + _SERVES, *ends]), serials=serials)
        answers.keep(body, answer, keeping=keeping, changes=changes)
    return answer


def _told(found: _Standing, now: datetime, known_since: datetime) -> Standing:
    if found.revoked_at is not None:
        return ocsp.Revoked(at=found.revoked_at, reason=found.reason)
    if found.not_after is None:
        # An intent that nobody has seen signed is not yet issued; after a crash it stands revoked.
        return ocsp.Unknown()
    return ocsp.Good(archive_cutoff=known_since if found.not_after < now else None)


async def _standings(tx: Transaction, asked: _Asked) -> tuple[_Standing, ...]:
    return tuple([await _standing(tx, asked.issuer, serial) for serial in asked.serials])


async def _standing(tx: Transaction, issuer: str, serial: str) -> _Standing:
    # What was handed out on AWS topics and never registered is revoked without being anybody's certificate.
    row = await tx.fetch_one(
        "SELECT c.not_after, r.revoked_at, r.reason"
        " FROM (SELECT CAST(? AS TEXT) AS serial, CAST(? AS TEXT) AS issuer) q"
        " LEFT JOIN certificates c ON c.serial = q.serial AND c.issuer = q.issuer"
        " LEFT JOIN revocations r ON r.serial = q.serial AND r.issuer = q.issuer",
        (serial, issuer),
    )
    return _Standing() if row is None else _standing_of(row)


def _standing_of(row: Row) -> _Standing:
    not_after, revoked_at, reason = row
    return _Standing(
        not_after=times.optional_moment(not_after),
        revoked_at=times.optional_moment(revoked_at),
        reason=RevocationReason.UNSPECIFIED if reason is None else RevocationReason(columns.text(reason)),
    )
