"""Authorities that are not ours, as an operator hands them in: CAs, revocation lists, and leaves of theirs.

It judges what they are worth before anything is kept: a CA that hangs in the air, a list that nobody signed,
and a leaf that none of them signed are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import serial_hex
from fleet.ca.issuer import fingerprint_of, issuer_id_of
from fleet.core.goodkey import certified_key, key_hash
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, RefusedError
from fleet.ra.adopted.foreign_list import ListedLeaf

_LONGEST_ISSUER = 32
_UNREADABLE: tuple[type[Exception], ...] = (*UNREADABLE, RefusedError)
_NOT_SIGNED: tuple[type[Exception], ...] = (*UNREADABLE, InvalidSignature)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignAuthorities:
    """The CAs of an adopted fleet: roots first, then those below them."""

    certificates: tuple[x509.Certificate, ...]

    @property
    def pem(self) -> str:
        return "".join(one.public_bytes(Encoding.PEM).decode() for one in self.certificates)

    @property
    def issuing(self) -> tuple[x509.Certificate, ...]:
        """Those with no CA below them here: whoever signs leaves is among them."""
        return tuple(
            one
            for one in self.certificates
            if not any(_is_signed_by(other, one) for other in self.certificates if other != one)
        )

    def issuer_of(self, leaf: x509.Certificate) -> x509.Certificate | None:
        """Return the CA that signed a leaf, or None."""
        return next((one for one in self.certificates if _is_signed_by(leaf, one)), None)

    def root_of(self, issuer: x509.Certificate) -> x509.Certificate:
        """Return the root above a CA; `read_authorities` has seen that there is one."""
        above = issuer
        while not _is_signed_by(above, above):
            above = next(one for one in self.certificates if one != above and _is_signed_by(above, one))
        return above


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLeaf:
    """A leaf of another CA, as brokers and records name it."""

    issuer: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    anchor: str
    key_hash: str = ""
    """Empty where nobody has seen the certificate itself."""
    der: bytes = b""


def read_authorities(pem: str) -> ForeignAuthorities:
    """Read the CAs of a fleet: every one must lead to a root among them.

    Raises:
        BadInputError: one is no CA, or hangs in the air.
    """
    try:
        found = tuple(dict.fromkeys(x509.load_pem_x509_certificates(pem.encode())))
        no_cas = [one for one in found if not _is_ca(one)]
    except _UNREADABLE as error:
        raise BadInputError("--ca holds no certificates in PEM") from error
    if no_cas:
        raise BadInputError(
            f"{_name(no_cas[0])} is no CA", hint="--ca takes CAs; leaves go to --certificates"
        )
    roots = [one for one in found if _is_signed_by(one, one)]
    reached = list(roots)
    for _ in found:
        reached += [
            one for one in found if one not in reached and any(_is_signed_by(one, a) for a in reached)
        ]
    if lost := [one for one in found if one not in reached]:
        raise BadInputError(
            f"{_name(lost[0])} leads to no root in the file",
            hint="add its root: brokers need the whole chain",
        )
    return ForeignAuthorities(certificates=tuple(reached))


def read_lists(
    pem: str, authorities: ForeignAuthorities, *, now: datetime
) -> tuple[x509.CertificateRevocationList, ...]:
    """Read the revocation lists: one, in its time and well signed, of each CA that signs leaves.

    Raises:
        BadInputError: one is missing, forged or out of its time.
    """
    lists = _lists(pem)
    found = []
    for issuer in authorities.issuing:
        crl = next((one for one in lists if one.issuer == issuer.subject and _is_list_of(one, issuer)), None)
        if crl is None:
            raise BadInputError(
                f"there is no revocation list of {_name(issuer)}",
                hint="brokers refuse the devices of a CA without one: --crl FILE",
            )
        end = crl.next_update_utc
        if end is None or not crl.last_update_utc <= now < end:
            raise BadInputError(
                f"the revocation list of {_name(issuer)} is not in its time",
                hint="ask that CA for another",
            )
        found.append(crl)
    return tuple(found)


def known_leaf(certificate: x509.Certificate, authorities: ForeignAuthorities) -> KnownLeaf:
    """Return what brokers and records need of a leaf.

    Raises:
        BadInputError: none of these CAs signed it, or it does not say which key did.
    """
    issuer = authorities.issuer_of(certificate)
    if issuer is None or _is_ca(certificate):
        raise BadInputError(f"{_name(certificate)} is no leaf of the adopted CA")
    try:
        names = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        hashed = key_hash(certified_key(certificate.public_key()))
    except x509.ExtensionNotFound as error:
        raise BadInputError(
            f"{_name(certificate)} does not say which key signed it (RFC 5280 4.2.1.1)",
            hint="such a device enrolls anew: fleet claim create",
        ) from error
    except _UNREADABLE as error:
        raise BadInputError(f"{_name(certificate)} has a key that is not used here") from error
    identifier = names.key_identifier or b""
    if not 1 <= len(identifier) <= _LONGEST_ISSUER:
        raise BadInputError(f"{_name(certificate)} does not say which key signed it (RFC 5280 4.2.1.1)")
    return KnownLeaf(
        issuer=identifier.hex(),
        serial=serial_hex(certificate.serial_number),
        fingerprint=fingerprint_of(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        anchor=fingerprint_of(authorities.root_of(issuer)),
        key_hash=hashed,
        der=certificate.public_bytes(Encoding.DER),
    )


def named_leaf(row: ListedLeaf, authorities: ForeignAuthorities, *, now: datetime) -> KnownLeaf | None:
    """Return a leaf that the list names by serial and fingerprint, where only one CA can have signed it."""
    if not row.serial or not row.fingerprint or len(authorities.issuing) != 1:
        return None
    issuer = authorities.issuing[0]
    try:
        issuer_id = issuer_id_of(issuer)
    except x509.ExtensionNotFound:
        return None
    return KnownLeaf(
        issuer=issuer_id,
        serial=row.serial,
        fingerprint=row.fingerprint,
        not_before=now,
        not_after=issuer.not_valid_after_utc,
        anchor=fingerprint_of(authorities.root_of(issuer)),
    )


def is_listed_in(crls_pem: str, certificate: x509.Certificate) -> bool:
    """Tell whether its own CA has revoked a certificate, by the lists that were taken from it."""
    number, issuer = certificate.serial_number, certificate.issuer
    return any(
        one.issuer == issuer and one.get_revoked_certificate_by_serial_number(number) is not None
        for one in _lists(crls_pem)
    )


def _lists(pem: str) -> Sequence[x509.CertificateRevocationList]:
    end = "-----END X509 CRL-----"
    blocks = [f"{block}{end}\n" for block in pem.split(end)[:-1]]
    try:
        found = [x509.load_pem_x509_crl(block.encode()) for block in blocks]
    except _UNREADABLE as error:
        raise BadInputError("a revocation list cannot be read", hint="--crl takes PEM") from error
    return found


def _is_list_of(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        return False
    try:
        return crl.is_signature_valid(key)
    except _NOT_SIGNED:
        return False


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except _NOT_SIGNED:
        return False
    return True


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or certificate.fingerprint(hashes.SHA256()).hex()
