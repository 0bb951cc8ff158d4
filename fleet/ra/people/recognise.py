"""Tells which operator a client certificate belongs to, from the records as they are now.

It is asked on every request, never once a connection: TLS verified the chain when a session began, and a
session that is resumed began with an earlier connection. It does not say what an operator may do.
"""

from datetime import datetime

from device_agent.wire.problems import ProblemCode
from fleet.ca.hierarchy import Authority
from fleet.errors import RefusedError
from fleet.model import CertificateState, Purpose
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.shown import ShownCertificate
from fleet.store.certificates import CertificateRecord, load_certificate
from fleet.store.operators import OperatorRecord, load_operator

_ANOTHER = "connect with the certificate of an operator; fleet operator add makes one"
_NEW = "somebody with the role security adds another operator: fleet operator add"
_BACK = "two others let you in again: fleet operator recover NAME"

_Found = tuple[CertificateRecord, OperatorRecord]


async def recognise(context: Context, shown: ShownCertificate) -> OperatorRecord:
    """Return the operator whose certificate TLS has verified.

    Raises:
        RefusedError: issuer, purpose, record or time say that it is nobody's who may act, each with why.
    """
    if shown.issuer not in _operators_issuers(context.authority):
        raise RefusedError("the certificate of this connection is no operator's", hint=_ANOTHER)
    found = await context.store.read(_find, shown)
    if found is None:
        # Signed by our key, and not on record: a copy of another home's, or worse.
        raise RefusedError("the certificate of this connection is not on record here", hint=_ANOTHER)
    certificate, operator = found
    _require_in_force(certificate, operator, now=context.clock())
    return operator


def _operators_issuers(authority: Authority) -> set[str]:
    return {issuer.issuer_id for issuer in authority.admitted if issuer.purpose is Purpose.OPERATOR}


async def _find(tx: Transaction, shown: ShownCertificate) -> _Found | None:
    certificate = await load_certificate(tx, shown.serial)
    if certificate is None or certificate.signed is None or certificate.purpose is not Purpose.OPERATOR:
        return None
    if (certificate.issuer, certificate.signed.fingerprint) != (shown.issuer, shown.fingerprint):
        return None
    operator = await load_operator(tx, certificate.name)
    return None if operator is None else (certificate, operator)


def _require_in_force(certificate: CertificateRecord, operator: OperatorRecord, *, now: datetime) -> None:
    signed = certificate.signed
    if operator.removed_at is not None:
        raise RefusedError(f"operator {operator.name} was removed", hint=_NEW, code=ProblemCode.REVOKED)
    if certificate.state is not CertificateState.ACTIVE or signed is None:
        raise RefusedError(
            f"the certificate of operator {operator.name} is {certificate.state}, not active",
            hint=_BACK,
            code=ProblemCode.REVOKED,
        )
    if not signed.not_before <= now < signed.not_after:
        raise RefusedError(
            f"the certificate of operator {operator.name} is good from {signed.not_before:%Y-%m-%d} to"
            f" {signed.not_after:%Y-%m-%d}, and not today",
            hint=_BACK,
        )
