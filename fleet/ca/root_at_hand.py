"""A root whose key is at hand for one act: in its folder, or on a disk that was brought for it.

Works on the files of one root alone, with no store and no server, so that it works where there is none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from device_agent.wire.secret import Secret
from fleet.ca.crl import make_crl
from fleet.ca.issuer import IssuedCertificate, Issuer, fingerprint_of
from fleet.ca.loading import load_certificate
from fleet.ca.signers import FileSigner, Signer, rehearsal_key
from fleet.ca.token_keys import TokenKeys
from fleet.core.goodkey import ALL_KEY_TYPES, CertifiedKey, certified_key
from fleet.core.profile import ISSUING_PROFILE, STATION_ISSUING_PROFILE, authority_applicant
from fleet.core.serial import SERIAL_RANDOMNESS, new_serial
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError
from fleet.home import REFUSED_PINS, AuthorityFiles
from fleet.model import Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingOrder:
    """An issuing CA that a root is to certify: the names are ours, the key is the request's."""

    csr_pem: str
    common_name: str
    purpose: Purpose
    """Of its leaves."""
    status_url: str
    """Plain http, host and port, where status is answered."""


def open_root(files: AuthorityFiles, *, fleet: str, passphrase: Secret | None) -> Issuer:
    """Return a root with its key open, in its file by the passphrase, or in its token by the PIN.

    Raises:
        NotFoundError: certificate or key is not there.
        BadInputError: the passphrase is wrong, or the key is another one's.
    """
    certificate = load_certificate(files.ca.certificate)
    public_key = certified_key(certificate.public_key())
    if certificate.issuer != certificate.subject:
        raise BadInputError(f"{files.ca.certificate} is no root", hint="name the folder of a root")
    signer: Signer = (
        TokenKeys(files.folder.parent / REFUSED_PINS).signer(files.token, public_key)
        if files.token.exists()
        else FileSigner(files.ca.key, passphrase=passphrase, public_key=public_key)
    )
    signer.unlock()
    return Issuer(
        certificate=certificate,
        signer=signer,
        purpose=Purpose.AUTHORITY,
        fleet=fleet,
        anchor=fingerprint_of(certificate),
        rehearsal=rehearsal_key(public_key),
    )


def sign_issuing(
    root: Issuer, order: IssuingOrder, *, now: datetime, randomness: Callable[[int], bytes]
) -> IssuedCertificate:
    """Certify an issuing CA.

    Raises:
        FleetError: the request does not prove its key, the key is unfit, or the root's cannot be used.
    """
    profile = STATION_ISSUING_PROFILE if order.purpose is Purpose.STATION else ISSUING_PROFILE
    template = replace(profile, key_types=ALL_KEY_TYPES).template(
        authority_applicant(order.common_name, fleet=root.fleet),
        _requested_key(order.csr_pem),
        now=now,
        issuer=root.facts(order.status_url),
    )
    serial = new_serial(now=now, randomness=randomness(SERIAL_RANDOMNESS))
    return root.issue(template, serial=serial)


def sign_list(
    root: Issuer, entries: Sequence[bytes], *, number: int, now: datetime, lifetime: timedelta
) -> bytes:
    """Return the next revocation list of a root, DER; raises `FleetError`."""
    return make_crl(root, entries, number=number, this_update=now, next_update=now + lifetime)


def _requested_key(csr_pem: str) -> CertifiedKey:
    """Return the key of a request that proves to have it (RFC 2986 4.2)."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        proved = csr.is_signature_valid
    except UNREADABLE as error:
        raise BadInputError("the request cannot be read (RFC 2986)", hint="fleet ca list") from error
    if not proved:
        raise BadInputError("the request does not prove its key (RFC 2986 4.2)", hint="fleet ca list")
    return certified_key(csr.public_key())
