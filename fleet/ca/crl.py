"""Certificate revocation lists (RFC 5280 5), one for each root and issuing CA.

Entries come encoded, from the moment of the revocation; a list is their concatenation under one signature.
It never decides what is revoked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import serial_hex
from fleet.ca import der
from fleet.ca.building import key_identifier
from fleet.ca.issuer import Issuer
from fleet.ca.signers import hash_of, sign_instead
from fleet.core.goodkey import certified_key
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, RefusedError

_UNREADABLE: tuple[type[Exception], ...] = (*UNREADABLE, RefusedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCrl:
    """What a verified CRL says."""

    number: int
    this_update: datetime
    next_update: datetime
    serials: frozenset[str]


def make_crl(
    issuer: Issuer,
    entries: Sequence[bytes],
    *,
    number: int,
    this_update: datetime,
    next_update: datetime,
) -> bytes:
    """Return a CRL as DER; each entry is one encoded element of revokedCertificates (RFC 5280 5.1.2.6).

    `number` must be above that of every earlier CRL of this issuer (RFC 5280 5.2.3).

    Raises:
        ValueError: the number or the times cannot stand in a CRL.
        FleetError: the signer failed.
    """
    empty = _empty(issuer, number, this_update, next_update)
    return sign_instead(_with_entries(empty, entries), issuer.signer, public_key=issuer.public_key)


def read_crl(encoded: bytes, issuer: x509.Certificate) -> ReadCrl:
    """Read a CRL and verify that this CA signed it.

    Raises:
        BadInputError: it is not a CRL, not of this CA, or has no number or end.
    """
    try:
        crl = x509.load_der_x509_crl(encoded)
        signed = crl.is_signature_valid(certified_key(issuer.public_key()))
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        serials = frozenset(serial_hex(entry.serial_number) for entry in crl)
    except _UNREADABLE as error:
        raise BadInputError("the CRL cannot be read", hint="fleet ca crl publishes it anew") from error
    next_update = crl.next_update_utc
    if not signed or crl.issuer != issuer.subject or next_update is None:
        raise BadInputError(
            f"the CRL is not one of {issuer.subject.rfc4514_string()}", hint="fleet ca crl publishes it anew"
        )
    return ReadCrl(number=number, this_update=crl.last_update_utc, next_update=next_update, serials=serials)


def _empty(issuer: Issuer, number: int, this_update: datetime, next_update: datetime) -> bytes:
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        key_identifier(issuer.certificate)
    )
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(this_update.replace(microsecond=0))
        .next_update(next_update.replace(microsecond=0))
        # RFC 5280 5.2.1 and 5.2.3: both in every CRL, neither critical.
        .add_extension(authority, critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    crl = builder.sign(issuer.rehearsal, hash_of(issuer.signer.public_key))
    return crl.public_bytes(Encoding.DER)


def _with_entries(empty: bytes, entries: Sequence[bytes]) -> bytes:
    """Put revokedCertificates where it stands in a TBSCertList: before the extensions (RFC 5280 5.1)."""
    if not entries:
        return empty  # RFC 5280 5.1.2.6: absent when nothing is revoked, never an empty list
    tbs, algorithm, signature = der.elements(empty)
    *head, extensions = der.elements(tbs)
    listed = der.sequence(*head, der.sequence(*entries), extensions)
    return der.sequence(listed, algorithm, signature)
