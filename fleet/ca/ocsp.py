"""Online certificate status (RFC 6960): a standing to answer bytes, signed by the delegate of the CA.

Where a certificate stands is for the store to say. What cannot be answered gets one of the unsigned
responses, never silence.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from fleet.ca import der
from fleet.ca.ocsp_request import HASH_NAMES, Question, Request
from fleet.ca.signature_algorithm import signature_algorithm
from fleet.ca.signers import Signer
from fleet.core.revocation import reason_code
from fleet.model import RevocationReason


def _failed(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


MALFORMED = _failed(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
UNAUTHORIZED = _failed(ocsp.OCSPResponseStatus.UNAUTHORIZED)
"""The question is about a CA that we do not speak for (RFC 5019 2.2.3)."""
TRY_LATER = _failed(ocsp.OCSPResponseStatus.TRY_LATER)

_BASIC = der.object_identifier("1.3.6.1.5.5.7.48.1.1")
_NONCE = der.object_identifier("1.3.6.1.5.5.7.48.1.2")
_ARCHIVE_CUTOFF = der.object_identifier("1.3.6.1.5.5.7.48.1.6")
_GOOD, _UNKNOWN = bytes((0x80, 0)), bytes((0x82, 0))  # RFC 6960 4.2.1: [0] and [2] IMPLICIT NULL
_REVOKED = der.context(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """Issued, not revoked."""

    archive_cutoff: datetime | None = None
    """It has ended, and was good to its end: from this time on we would know better (RFC 6960 4.4.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """Not to be relied on since `at`; on hold where the reason is that."""

    at: datetime
    reason: RevocationReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """We never issued it."""


Standing: TypeAlias = Good | Revoked | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From thisUpdate to nextUpdate: how long an answer may be believed."""

    this_update: datetime
    next_update: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """Speaks for one issuing CA, with a key of its own."""

    issuer: x509.Certificate
    certificate: x509.Certificate
    """Of the responder: id-kp-OCSPSigning and id-pkix-ocsp-nocheck, issued by that CA."""
    signer: Signer
    _names: Mapping[str, tuple[bytes, bytes]] = field(init=False, repr=False, compare=False)
    """How questions may name the CA, by algorithm."""

    def __post_init__(self) -> None:
        names = {algorithm: issuer_hashes(self.issuer, algorithm) for algorithm in HASH_NAMES}
        object.__setattr__(self, "_names", names)  # as the frozen instance itself would be set up

    def speaks_for(self, question: Question) -> bool:
        """Is the question about a certificate of this CA?"""
        return self._names[question.algorithm] == (question.issuer_name_hash, question.issuer_key_hash)

    def answer(self, request: Request, standings: Sequence[Standing], *, validity: Validity) -> bytes:
        """Return the signed response, one standing for each question in its order.

        A nonce is echoed and the responder's certificate included. `next_update` must be no later than a
        revocation may take to be seen.

        Raises:
            FleetError: the key cannot be used.
        """
        answers = (
            _single(question, standing, validity)
            for question, standing in zip(request.questions, standings, strict=True)
        )
        told = der.sequence(
            self._responder_id(),
            der.generalized_time(validity.this_update),
            der.sequence(*answers),
            _response_extensions(request.nonce),
        )
        signature = der.tlv(der.BIT_STRING, b"\x00" + self.signer.sign(told))
        certificates = der.sequence(self.certificate.public_bytes(Encoding.DER))
        basic = der.sequence(
            told,
            signature_algorithm(self.signer.public_key),
            signature,
            der.explicit(0, certificates),
        )
        answer = der.sequence(_BASIC, der.tlv(der.OCTET_STRING, basic))
        return der.sequence(der.enumerated(0), der.explicit(0, answer))

    def _responder_id(self) -> bytes:
        # RFC 6960 4.2.1, byKey: SHA-1 of the responder's key.
        digest = hashlib.sha1(_key_bits(self.certificate), usedforsecurity=False).digest()
        return der.explicit(2, der.tlv(der.OCTET_STRING, digest))


def issuer_hashes(issuer: x509.Certificate, algorithm: str) -> tuple[bytes, bytes]:
    """Return issuerNameHash and issuerKeyHash of a CA (RFC 6960 4.1.1)."""
    # The key's BIT STRING without its octet of unused bits: what a subject key identifier digests as well.
    name, key = issuer.subject.public_bytes(), _key_bits(issuer)
    return hashlib.new(algorithm, name).digest(), hashlib.new(algorithm, key).digest()


def _key_bits(certificate: x509.Certificate) -> bytes:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _, bit_string = der.elements(spki)
    return der.content(bit_string)[1:]


def _single(question: Question, standing: Standing, validity: Validity) -> bytes:
    return der.sequence(
        question.encoded,
        _status(standing),
        der.generalized_time(validity.this_update),
        der.explicit(0, der.generalized_time(validity.next_update)),
        _single_extensions(standing),
    )


def _status(standing: Standing) -> bytes:
    match standing:
        case Good():
            return _GOOD
        case Unknown():
            return _UNKNOWN
        case Revoked(at=at, reason=reason):
            code = reason_code(reason)
            told = b"" if code is None else der.explicit(0, der.enumerated(code))
            return der.tlv(_REVOKED, der.generalized_time(at) + told)


def _single_extensions(standing: Standing) -> bytes:
    if not isinstance(standing, Good) or standing.archive_cutoff is None:
        return b""
    return der.explicit(1, _extensions(_ARCHIVE_CUTOFF, der.generalized_time(standing.archive_cutoff)))


def _response_extensions(nonce: bytes | None) -> bytes:
    if nonce is None:
        return b""
    return der.explicit(1, _extensions(_NONCE, der.tlv(der.OCTET_STRING, nonce)))


def _extensions(name: bytes, value: bytes) -> bytes:
    """Return Extensions with one that is not critical."""
    return der.sequence(der.sequence(name, der.tlv(der.OCTET_STRING, value)))
