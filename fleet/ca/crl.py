"""Certificate revocation lists (RFC 5280 5): complete ones, their parts, and the deltas between them.

Entries come encoded, from the moment of the revocation; a list is their concatenation under one signature.
It never decides what is revoked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import serial_hex
from fleet.ca import der
from fleet.ca.building import key_identifier
from fleet.ca.issuer import Issuer
from fleet.ca.signers import checked_signature, hash_of
from fleet.core.goodkey import certified_key
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, RefusedError

_UNREADABLE: tuple[type[Exception], ...] = (*UNREADABLE, RefusedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a list speaks of, as its issuingDistributionPoint says (RFC 5280 5.2.5), and what is beside it.

    Without any of it the list is plain: complete, with no extension that a verifier could fail to know.
    """

    leaves_only: bool = False
    """Of an issuing CA: no list of it speaks of CAs."""
    places: tuple[str, ...] = ()
    """A part names itself as the leaves in it do; after a move, by the earlier addresses too."""
    freshest: str = ""
    """Where the delta list of a complete one is (RFC 5280 5.2.6)."""
    base_number: int | None = None
    """This is a delta list: it tells what changed since the complete list of that number (RFC 5280 5.2.4)."""


PLAIN = Scope()
"""The scope of a root's list, and of a broker's."""


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
    scope: Scope = PLAIN,
) -> bytes:
    """Return a CRL as DER; the entries are encoded elements of revokedCertificates, one or more in each
    (RFC 5280 5.1.2.6).

    `number` must be above that of every earlier CRL of this issuer (RFC 5280 5.2.3), but that a delta list
    and the complete one that is made with it have the same.

    Raises:
        ValueError: the number or the times cannot stand in a CRL.
        FleetError: the signer failed.
    """
    empty = _empty(issuer, number, this_update, next_update, scope)
    tbs, algorithm, _ = der.elements(empty)
    listed = _with_entries(tbs, entries)
    signature = checked_signature(listed, issuer.signer, public_key=issuer.public_key)
    return der.signed(listed, algorithm=algorithm, signature=signature)


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
        raise _another(issuer)
    return ReadCrl(number=number, this_update=crl.last_update_utc, next_update=next_update, serials=serials)


def serials_missing(encoded: bytes, serials: Sequence[str], *, issuer: x509.Certificate) -> tuple[str, ...]:
    """Return which of these serials a list of this CA does not name.

    Raises:
        BadInputError: it is not a CRL of this CA.
    """
    try:
        crl = x509.load_der_x509_crl(encoded)
        signed = crl.is_signature_valid(certified_key(issuer.public_key()))
        missing = [
            serial
            for serial in serials
            if crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is None
        ]
    except _UNREADABLE as error:
        raise BadInputError("the CRL cannot be read", hint="fleet ca crl publishes it anew") from error
    if not signed or crl.issuer != issuer.subject:
        raise _another(issuer)
    return tuple(missing)


def _another(issuer: x509.Certificate) -> BadInputError:
    return BadInputError(
        f"the CRL is not one of {issuer.subject.rfc4514_string()}", hint="fleet ca crl publishes it anew"
    )


def _empty(issuer: Issuer, number: int, this_update: datetime, next_update: datetime, scope: Scope) -> bytes:
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
    for extension, critical in _extensions(scope):
        builder = builder.add_extension(extension, critical=critical)
    crl = builder.sign(issuer.rehearsal, hash_of(issuer.signer.public_key))
    return crl.public_bytes(Encoding.DER)


def _extensions(scope: Scope) -> Iterator[tuple[x509.ExtensionType, bool]]:
    if scope.leaves_only or scope.places:
        names = [x509.UniformResourceIdentifier(place) for place in scope.places]
        point = x509.IssuingDistributionPoint(
            full_name=names or None,
            relative_name=None,
            only_contains_user_certs=scope.leaves_only,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        yield point, True
    if scope.freshest:
        name = x509.UniformResourceIdentifier(scope.freshest)
        yield x509.FreshestCRL([x509.DistributionPoint([name], None, None, None)]), False
    if scope.base_number is not None:
        yield x509.DeltaCRLIndicator(scope.base_number), True


def _with_entries(tbs: bytes, entries: Sequence[bytes]) -> bytes:
    """Put revokedCertificates where it stands in a TBSCertList: before the extensions (RFC 5280 5.1)."""
    octets = sum(map(len, entries))
    if not octets:
        return tbs  # RFC 5280 5.1.2.6: absent when nothing is revoked, never an empty list
    *head, extensions = der.elements(tbs)
    return der.sequence(*head, der.header(der.SEQUENCE, octets), *entries, extensions)
