"""CAs of stations: a root of their own in each domain, and below it one CA for each lease.

The root is apart from the domain's: whoever trusts the domain's root and keeps no list of single certificates
believes no station. A station's CA can name devices of that station, and nobody else (RFC 5280 4.2.1.10).
"""

from datetime import datetime

from cryptography import x509

from fleet.ca.issuer import Issuer, fingerprint_of, self_sign
from fleet.ca.signers import Signer, rehearsal_key
from fleet.core.goodkey import CertifiedKey
from fleet.core.profile import STATION_CA_PROFILE, STATION_ROOT_PROFILE, authority_applicant
from fleet.model import Purpose

_NOBODY = "http://localhost"
"""Where status would be told of a certificate that names no place."""


def make_station_root(
    signer: Signer, *, fleet: str, domain: str, serial: str, now: datetime
) -> x509.Certificate:
    """Return the root of a domain's stations; it names nobody outside of it. Raises `FleetError`."""
    applicant = authority_applicant(f"{fleet} {domain} stations root", fleet=fleet)
    template = STATION_ROOT_PROFILE.template(
        applicant, signer.public_key, now=now, issuer=None, permitted_names=(f"{domain}.{fleet}",)
    )
    return self_sign(template, signer, serial=serial, fleet=fleet, domain=domain)


def station_root(certificate: x509.Certificate, signer: Signer, *, fleet: str) -> Issuer:
    """Return the root at work."""
    return Issuer(
        certificate=certificate,
        signer=signer,
        purpose=Purpose.AUTHORITY,
        fleet=fleet,
        anchor=fingerprint_of(certificate),
        rehearsal=rehearsal_key(signer.public_key),
    )


def certify_station_ca(
    root: Issuer, public_key: CertifiedKey, *, place: str, serial: str, now: datetime, until: datetime
) -> x509.Certificate:
    """Return the CA of a station; `place` is `<station>.<domain>.<fleet>`, below which it may name devices.

    Raises:
        RefusedError: the key is not fit. FleetError: the lint or the signer failed.
    """
    applicant = authority_applicant(f"{place} CA {serial[-8:]}", fleet=root.fleet)
    template = STATION_CA_PROFILE.template(
        applicant,
        public_key,
        now=now,
        issuer=root.facts(_NOBODY),
        lifetime=until - now,
        permitted_names=(place,),
    )
    return x509.load_der_x509_certificate(root.issue(template, serial=serial).der)


def station_issuer(
    certificate: x509.Certificate, signer: Signer, *, fleet: str, domain: str, station: str, anchor: str
) -> Issuer:
    """Return a station's CA at work: it signs devices of that station, and the lint holds it to that."""
    return Issuer(
        certificate=certificate,
        signer=signer,
        purpose=Purpose.DEVICE,
        fleet=fleet,
        domain=domain,
        station=station,
        anchor=anchor,
        rehearsal=rehearsal_key(signer.public_key),
    )
