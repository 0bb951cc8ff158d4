"""One entry of a certificate revocation list, encoded once and joined for ever after (RFC 5280 5.1).

It never signs and never decides: a list is these bytes in a row, under an issuer's signature.
"""

from datetime import UTC, datetime

from fleet.model import RevocationReason

# RFC 5280 5.3.1. Unspecified has no number here: it is said by leaving the reason out.
_REASON_CODES: dict[RevocationReason, int] = {
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.CA_COMPROMISE: 2,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.CERTIFICATE_HOLD: 6,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
}
_REMOVE_FROM_CRL = 8

_ENUMERATED, _INTEGER, _OCTET_STRING, _OBJECT_IDENTIFIER, _SEQUENCE = 0x0A, 0x02, 0x04, 0x06, 0x30
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18

# id-ce-cRLReasons, 2.5.29.21
_REASON_CODE_OID = bytes((0x55, 0x1D, 0x15))

_FIRST_GENERALIZED_YEAR = 2050


def reason_code(reason: RevocationReason) -> int | None:
    """Return the CRLReason as it is encoded, or None where the reason is left out."""
    return _REASON_CODES.get(reason)


def encode_entry(serial: str, at: datetime, reason: RevocationReason) -> bytes:
    """Return one element of revokedCertificates, DER (RFC 5280 5.1.2.6).

    `serial` is hex; a time counts in whole seconds of UTC.
    """
    return _entry(serial, at, reason_code(reason))


def encode_removal(serial: str, at: datetime) -> bytes:
    """Return the element of a delta list that takes a released hold off its base list (RFC 5280 5.3.1)."""
    return _entry(serial, at, _REMOVE_FROM_CRL)


def _entry(serial: str, at: datetime, reason_code: int | None) -> bytes:
    number = int(serial, 16)
    # Two's complement: one more octet where the top bit is set (X.690 8.3).
    integer = number.to_bytes(number.bit_length() // 8 + 1, "big")
    content = _tlv(_INTEGER, integer) + _time(at)
    if reason_code is not None:
        code = _tlv(_ENUMERATED, bytes((reason_code,)))
        extension = _tlv(_OBJECT_IDENTIFIER, _REASON_CODE_OID) + _tlv(_OCTET_STRING, code)
        content += _tlv(_SEQUENCE, _tlv(_SEQUENCE, extension))
    return _tlv(_SEQUENCE, content)


def _time(at: datetime) -> bytes:
    """Return a Time: UTCTime through 2049, GeneralizedTime after (RFC 5280 5.1.2.4)."""
    moment = at.astimezone(UTC)
    if moment.year < _FIRST_GENERALIZED_YEAR:
        return _tlv(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return _tlv(_GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())


def _tlv(tag: int, content: bytes) -> bytes:
    """Return tag, length and content; no entry is longer than the short form counts (X.690 8.1.3.4)."""
    if len(content) > 127:
        raise ValueError("a revocation entry has no parts of more than 127 octets")
    return bytes((tag, len(content))) + content
