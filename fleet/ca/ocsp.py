"""Online certificate status (RFC 6960, RFC 9654): request bytes to a question, a standing to answer bytes.

The responder's key is delegated by the CA that it speaks for. Where a certificate stands is for the store
to say; whatever cannot be read as one plain question is answered `malformedRequest`, never dropped.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from device_agent.wire.identity import serial_hex
from fleet.ca import der
from fleet.ca.signers import FileSigner, hash_of
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError
from fleet.model import RevocationReason

MAX_REQUEST_BYTES = 4096
_MAX_NONCE = 128

_CertIdHash: TypeAlias = hashes.SHA1 | hashes.SHA256


def _failed(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


MALFORMED = _failed(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
UNAUTHORIZED = _failed(ocsp.OCSPResponseStatus.UNAUTHORIZED)
"""The question is about a CA that we do not speak for (RFC 5019 2.2.3)."""
TRY_LATER = _failed(ocsp.OCSPResponseStatus.TRY_LATER)
INTERNAL_ERROR = _failed(ocsp.OCSPResponseStatus.INTERNAL_ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Where does this certificate stand? A CertID and perhaps a nonce (RFC 6960 4.1.1, RFC 9654 2.1)."""

    algorithm: _CertIdHash
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int
    nonce: bytes | None = None

    @property
    def serial(self) -> str:
        """The serial as 32 hex; one longer than ours stays longer, and is unknown."""
        return serial_hex(self.serial_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """Issued, not revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """Not to be relied on since `at`."""

    at: datetime
    reason: RevocationReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """We never issued it."""


Standing: TypeAlias = Good | Revoked | Unknown


def read_request(body: bytes) -> Question:
    """Read the body of a POST, or what `request_of_path` returned.

    Raises:
        BadInputError: answer `MALFORMED`.
    """
    if not 0 < len(body) <= MAX_REQUEST_BYTES:
        raise _malformed(f"must be 1 to {MAX_REQUEST_BYTES} bytes")
    try:
        request = ocsp.load_der_ocsp_request(body)
        extensions = request.extensions
        algorithm = request.hash_algorithm
        serial_number = request.serial_number
        name_hash, key_hash = request.issuer_name_hash, request.issuer_key_hash
    except NotImplementedError as error:
        raise _malformed("must ask about exactly one certificate") from error
    except UNREADABLE as error:
        raise _malformed("cannot be read") from error
    if not isinstance(algorithm, hashes.SHA1 | hashes.SHA256):
        raise _malformed("must name the issuer by SHA-1 or SHA-256")
    return Question(
        algorithm=algorithm,
        issuer_name_hash=name_hash,
        issuer_key_hash=key_hash,
        serial_number=serial_number,
        nonce=_nonce(extensions),
    )


def request_of_path(raw_tail: str) -> bytes:
    """Return the request of a GET: what follows `/ocsp/` in the *raw* path (RFC 6960 A.1).

    Raises:
        BadInputError: answer `MALFORMED`.
    """
    try:
        return base64.b64decode(unquote_to_bytes(raw_tail), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("must be base64 in the path") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """Speaks for one issuing CA, with a key of its own."""

    issuer: x509.Certificate
    certificate: x509.Certificate
    """Of the responder: id-kp-OCSPSigning and id-pkix-ocsp-nocheck, issued by that CA."""
    signer: FileSigner

    def speaks_for(self, question: Question) -> bool:
        """Is the question about a certificate of this CA?"""
        asked = question.issuer_name_hash, question.issuer_key_hash
        return asked == issuer_hashes(self.issuer, question.algorithm)

    def answer(
        self, question: Question, standing: Standing, *, this_update: datetime, next_update: datetime
    ) -> bytes:
        """Return the signed response; a nonce is echoed, the responder's certificate included.

        `next_update` must be no later than a revocation may take to be seen.

        Raises:
            FleetError: the key cannot be used.
        """
        status, revoked_at, reason = _status(standing)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response_by_hash(
                question.issuer_name_hash,
                question.issuer_key_hash,
                question.serial_number,
                question.algorithm,
                status,
                this_update.replace(microsecond=0),
                next_update.replace(microsecond=0),
                revoked_at,
                reason,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
            .certificates([self.certificate])
        )
        if question.nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(question.nonce), critical=False)
        key = self.signer.private_key()
        return builder.sign(key, hash_of(self.signer.public_key)).public_bytes(Encoding.DER)


def issuer_hashes(issuer: x509.Certificate, algorithm: _CertIdHash) -> tuple[bytes, bytes]:
    """Return issuerNameHash and issuerKeyHash of a CA (RFC 6960 4.1.1)."""
    # The key's BIT STRING without its octet of unused bits: what a subject key identifier digests as well.
    key = _key_bits(issuer)
    name = issuer.subject.public_bytes()
    return hashlib.new(algorithm.name, name).digest(), hashlib.new(algorithm.name, key).digest()


def _key_bits(issuer: x509.Certificate) -> bytes:
    spki = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _, bit_string = der.elements(spki)
    return der.content(bit_string)[1:]


def _status(
    standing: Standing,
) -> tuple[ocsp.OCSPCertStatus, datetime | None, x509.ReasonFlags | None]:
    match standing:
        case Good():
            return ocsp.OCSPCertStatus.GOOD, None, None
        case Unknown():
            return ocsp.OCSPCertStatus.UNKNOWN, None, None
        case Revoked(at=at, reason=RevocationReason.UNSPECIFIED):
            # RFC 5280 5.3.1: unspecified is said by leaving the reason out.
            return ocsp.OCSPCertStatus.REVOKED, at.replace(microsecond=0), None
        case Revoked(at=at, reason=reason):
            return ocsp.OCSPCertStatus.REVOKED, at.replace(microsecond=0), x509.ReasonFlags(reason.value)


def _nonce(extensions: x509.Extensions) -> bytes | None:
    nonce: bytes | None = None
    for extension in extensions:
        if isinstance(extension.value, x509.OCSPNonce):
            nonce = extension.value.nonce
            if not 1 <= len(nonce) <= _MAX_NONCE:
                raise _malformed(f"nonce must be 1 to {_MAX_NONCE} octets (RFC 9654 2.1)")
        elif extension.critical:
            raise _malformed("has a critical extension that is not known here")
    return nonce


def _malformed(what: str) -> BadInputError:
    return BadInputError(f"the OCSP request {what}", hint="ask as RFC 6960 says")
