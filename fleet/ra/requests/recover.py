"""Hears a device whose certificate no longer opens a connection: expired, superseded, or refused.

It shows the old certificate and a fresh signature by its key. Limited by address and by device before
anything is verified; the core judges by the record on file, the certificate's own word counts for nothing.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.fields import MAX_BODY_BYTES, parse_object
from device_agent.wire.messages import Reply, Request
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from device_agent.wire.proofs import recovery_text
from device_agent.wire.replies import Problem
from device_agent.wire.requests import Confirm, Renew, StatusQuery
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, FleetError, RefusedError, problem_code
from fleet.model import Purpose
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.refusals import record_refusal
from fleet.ra.requests.answer import answer, read
from fleet.ra.shown import ShownCertificate, shown_certificate
from fleet.store.adopted import Shown, load_shown

RETRY_AFTER_SECONDS = 60

_LONGEST_SIGNATURE = 3309  # ML-DSA-65 (FIPS 204 4, table 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryProof:
    """The members of a recovery body."""

    request: bytes
    certificate: x509.Certificate
    shown: ShownCertificate
    nonce: str
    signature: bytes


async def recover(context: Context, body: bytes, *, address: str) -> Reply:
    """Answer a recovery request; whatever is wrong with it becomes a problem."""
    now = context.clock()
    if not context.by_address.allow(f"recover {address}", now=now):
        return _limited("-")
    try:
        proof = _read(body)
        request = read(proof.request)
        if isinstance(request, Problem):
            return request
        # The serial is not proven yet: it only chooses whose allowance this uses up.
        if not context.by_device.allow(f"recover {proof.shown.issuer} {proof.shown.serial}", now=now):
            return _limited(request.id)
        return await _judge(context, proof, request, address)
    except MalformedMessageError as error:
        return Problem.of("-", ProblemCode.MALFORMED, str(error))
    except FleetError as error:
        return Problem.of("-", problem_code(error), str(error))


async def _judge(context: Context, proof: RecoveryProof, request: Request, address: str) -> Reply:
    if not isinstance(request, Renew | Confirm | StatusQuery):
        return Problem.of(request.id, ProblemCode.NOT_ALLOWED, "recovery takes renew, confirm and status")
    if not context.nonces.redeem(proof.nonce, now=context.clock()):
        return Problem.of(request.id, ProblemCode.BUSY, "the nonce is not fresh; ask for a new one")
    asker = Asker(listener=Listener.RECOVERY, address=address, certificate=proof.shown)
    try:
        await _require_possession(context, proof)
    except RefusedError as error:
        # Somebody shows a certificate without having its key: operators want to know.
        await record_refusal(context, asker, request, error)
        return Problem.of(request.id, error.code, str(error))
    return await answer(context, asker, request)


async def _require_possession(context: Context, proof: RecoveryProof) -> None:
    """Refuse what is no device's certificate of ours, or not signed by its key."""
    row = await context.store.read(load_shown, Shown(issuer=proof.shown.issuer, serial=proof.shown.serial))
    if (
        row is None
        or row.signed is None
        or row.purpose is not Purpose.DEVICE
        or row.issuer != proof.shown.issuer
        # The very bytes that we signed: whatever else is in a certificate cannot have been changed.
        or row.signed.fingerprint != proof.shown.fingerprint
    ):
        raise RefusedError("the certificate is none of this fleet's", code=ProblemCode.UNKNOWN_DEVICE)
    text = recovery_text(fleet=context.fleet, domain=row.domain, nonce=proof.nonce, request=proof.request)
    if not is_signed_by(proof.certificate, proof.signature, text):
        raise RefusedError("the signature is not by the certificate's key")


def is_signed_by(certificate: x509.Certificate, signature: bytes, text: bytes) -> bool:
    """Verify a signature by the key of a certificate, with SHA-256 where the key type leaves a choice."""
    key = certificate.public_key()
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PublicKey() | mldsa.MLDSA44PublicKey() | mldsa.MLDSA65PublicKey():
                key.verify(signature, text)
            case rsa.RSAPublicKey():
                key.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
            case _:
                return False
    except InvalidSignature:
        return False
    return True


def _read(body: bytes) -> RecoveryProof:
    fields = parse_object(body)
    certificate = read_certificate(fields.pem("certificate"))
    der = certificate.public_bytes(Encoding.DER)
    return RecoveryProof(
        request=fields.base64("request", longest=MAX_BODY_BYTES),
        certificate=certificate,
        shown=shown_certificate(der),
        nonce=fields.sha256("nonce"),
        signature=fields.base64("signature", longest=_LONGEST_SIGNATURE),
    )


def read_certificate(pem: str) -> x509.Certificate:
    """Return the certificate of one PEM block; raises `BadInputError` for whatever else the text is."""
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except UNREADABLE as error:
        raise BadInputError("certificate must be one PEM block") from error
    if len(found) != 1:
        raise BadInputError("certificate must be one PEM block")
    return found[0]


def _limited(message_id: str) -> Problem:
    problem = Problem.of(message_id, ProblemCode.RATE_LIMITED, "too many recovery requests")
    return Problem(
        id=problem.id,
        code=problem.code,
        detail=problem.detail,
        retry=problem.retry,
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
