"""What the keys of two roots sign when one follows the other: for each other, and for those who trust them.

Both keys are at hand at one moment only, so all is signed then: also the bundle that gives up the old root,
which nobody is told of until the rollover comes to its end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from device_agent.wire.proofs import trust_text
from device_agent.wire.trust import TrustBundle
from fleet.ca.building import subject_name
from fleet.ca.issuer import IssuedCertificate, Issuer, fingerprint_of, pem_bundle
from fleet.ca.signers import is_signed
from fleet.core.goodkey import certified_key
from fleet.core.profile import ROOT_PROFILE, Applicant
from fleet.core.serial import SERIAL_RANDOMNESS, new_serial
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, RefusedError

LINK_PROFILE = replace(ROOT_PROFILE, name="link")
"""Of a certificate by which one root vouches for the key of another (RFC 5280 3.2, cross-certificate)."""

_BACK_LIFETIME = timedelta(days=730)
"""Chains that end at the older root are gone long before."""
_UNREADABLE: tuple[type[Exception], ...] = (*UNREADABLE, RefusedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Two roots of one realm, each with its key."""

    old: Issuer
    new: Issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """When and where one root follows the other."""

    fleet: str
    realm: str
    version: int
    """Of the bundle that holds both."""
    beside: tuple[x509.Certificate, ...] = ()
    """Anchors that belong to the realm and stay, such as a public CA's."""
    links: tuple[x509.Certificate, ...] = ()
    """Those of earlier rollovers, for devices that slept through them."""
    now: datetime
    randomness: Callable[[int], bytes]
    status_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """All that was signed."""

    link: IssuedCertificate
    """The old root vouches for the new one's key."""
    back: IssuedCertificate
    """The new root vouches for the old one's key, for those who hold the new one alone."""
    both: TrustBundle
    new_alone: TrustBundle


def succeed(roots: Roots, occasion: Occasion) -> Succession:
    """Sign all that makes the new root the old one's successor.

    Raises:
        FleetError: a key cannot be used, or a name is not one that we make.
    """
    link, back = _link(roots, occasion), _back(roots, occasion)
    links = (*occasion.links, x509.load_der_x509_certificate(link.der))
    old, new = roots.old.certificate, roots.new.certificate
    return Succession(
        link=link,
        back=back,
        both=_bundle(roots.new, occasion, anchors=(*occasion.beside, old, new), links=links),
        new_alone=_bundle(
            roots.new,
            replace(occasion, version=occasion.version + 1),
            anchors=(*occasion.beside, new),
            links=links,
        ),
    )


def require_signed(bundle: TrustBundle, *, fleet: str, signer: x509.Certificate) -> None:
    """Check that a bundle is one that devices take: its last anchor is `signer`, which signed it.

    Raises:
        BadInputError: it is not.
    """
    try:
        anchors = x509.load_pem_x509_certificates(bundle.anchors.encode())
        text = _text(bundle.realm, bundle.version, anchors, fleet=fleet)
        is_good = anchors[-1] == signer and is_signed(
            certified_key(signer.public_key()), bundle.signature, text
        )
    except _UNREADABLE as error:
        raise BadInputError("the trust bundle cannot be read") from error
    if not is_good:
        raise BadInputError(f"the trust bundle {bundle.version} of {bundle.realm} is not signed by its root")


def _link(roots: Roots, occasion: Occasion) -> IssuedCertificate:
    template = LINK_PROFILE.template(
        _applicant(roots.new.certificate),
        roots.new.public_key,
        now=occasion.now,
        issuer=roots.old.facts(occasion.status_url),
    )
    return roots.old.issue(template, serial=_serial(occasion))


def _back(roots: Roots, occasion: Occasion) -> IssuedCertificate:
    """Sign the way back, dated from before the new root, by which devices know that it leads no further.

    A link leads a device on only if it does not begin before the root that signed it: or whoever stole an
    old key could lead devices back to it.
    """
    old = roots.old.certificate
    template = LINK_PROFILE.template(
        _applicant(old),
        roots.old.public_key,
        now=occasion.now,
        issuer=roots.new.facts(occasion.status_url),
        lifetime=min(_BACK_LIFETIME, old.not_valid_after_utc - occasion.now),
    )
    before = min(old.not_valid_before_utc, roots.new.certificate.not_valid_before_utc)
    dated = replace(template, not_before=before - timedelta(seconds=1))
    return roots.new.issue(dated, serial=_serial(occasion))


def _bundle(
    signer: Issuer,
    occasion: Occasion,
    *,
    anchors: Sequence[x509.Certificate],
    links: Sequence[x509.Certificate],
) -> TrustBundle:
    text = _text(occasion.realm, occasion.version, anchors, fleet=occasion.fleet)
    return TrustBundle(
        realm=occasion.realm,
        version=occasion.version,
        anchors=pem_bundle(anchors),
        links=pem_bundle(links),
        signature=signer.signer.sign(text),
    )


def _text(realm: str, version: int, anchors: Sequence[x509.Certificate], *, fleet: str) -> bytes:
    names = [fingerprint_of(anchor) for anchor in anchors]
    return trust_text(fleet=fleet, realm=realm, version=version, anchors=names)


def _applicant(root: x509.Certificate) -> Applicant:
    """Return the names of a root as an applicant has them.

    Raises:
        RefusedError: the name is not of our making, so that a certificate of ours would be for another.
    """
    names = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    organizations = root.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    applicant = Applicant(
        common_name=str(names[0].value) if names else "",
        organization=str(organizations[0].value) if organizations else None,
    )
    if not names or subject_name(applicant).public_bytes() != root.subject.public_bytes():
        raise RefusedError(
            f"the root {root.subject.rfc4514_string()} is somebody else's: it is followed by its owner",
            hint="fleet ca add takes an issuing CA under the new root",
        )
    return applicant


def _serial(occasion: Occasion) -> str:
    return new_serial(now=occasion.now, randomness=occasion.randomness(SERIAL_RANDOMNESS))
