"""Judges trust bundles: which roots this device believes from now on, and who had a right to say so.

A bundle is taken only where an anchor that is held signed it, or has vouched, by link certificates, for
the one that did; and never one of a lower version. It never takes a bundle because of who sent it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from device_agent.core.certificates import (
    UNREADABLE,
    anchor_id,
    lifetime,
    load,
    public_key_der,
    read_bundle,
)
from device_agent.core.issuing import is_issued_by, is_valid_at
from device_agent.errors import UntrustedBundleError
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.proofs import trust_text
from device_agent.wire.trust import TrustBundle

MAX_ANCHORS = 8
MAX_LINKS = 8
"""Of as many rolls a device may know nothing."""

_SHA256_BITS = 256


class Doubt(StrEnum):
    """Why a bundle is not taken, as the state topic names it."""

    UNREADABLE = "trust-unreadable"
    OTHER_REALM = "trust-other-realm"
    ROLLED_BACK = "trust-rolled-back"
    FORGED = "trust-forged"
    UNCHAINED = "trust-unchained"
    LOCKS_OUT = "trust-locks-out"
    """The trial failed: with this bundle alone the device would not come back."""


class Source(StrEnum):
    """Who brought what is held."""

    ENROLLMENT = "enrollment"
    LINK = "link"
    """An answer, whose new root a held one had signed for."""
    ANSWER = "answer"
    NOTICE = "notice"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTrust:
    """Since when the anchors of a realm are what they are, and by whom."""

    realm: str
    since: datetime
    source: Source
    version: int = 0
    """Of the bundle that was taken last; 0 before the first."""
    digest: str = ""
    """Hex SHA-256 of what its root signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a bundle is judged by: the realm, the anchors held (DER), and the last bundle taken."""

    fleet: str
    realm: str
    anchors: tuple[bytes, ...]
    version: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTrust:
    """What may be held from now on."""

    realm: str
    version: int
    digest: str
    anchors: tuple[bytes, ...]
    dropped: tuple[bytes, ...]
    """Anchors that are held now, and would be no more."""


def judge(bundle: TrustBundle, holding: Holding, *, now: datetime) -> NewTrust | None:
    """Return what a bundle makes of the anchors of a realm, or None where it is the one that is held.

    Raises:
        UntrustedBundleError: a rule is broken; nothing may change because of it.
    """
    if bundle.realm != holding.realm:
        raise _doubt(Doubt.OTHER_REALM, bundle, "this device has no part in that realm")
    try:
        anchors = read_bundle(bundle.anchors, most=MAX_ANCHORS)
        links = () if bundle.links is None else read_bundle(bundle.links, most=MAX_LINKS)
        return _judge(bundle, holding, anchors, follow(links, holding.anchors, now=now))
    except (MalformedMessageError, *UNREADABLE) as error:
        raise _doubt(Doubt.UNREADABLE, bundle, str(error)) from error


def _judge(
    bundle: TrustBundle, holding: Holding, anchors: tuple[bytes, ...], links: tuple[bytes, ...]
) -> NewTrust | None:
    text = trust_text(
        fleet=holding.fleet,
        realm=bundle.realm,
        version=bundle.version,
        anchors=[anchor_id(der) for der in anchors],
    )
    digest, signer = hashlib.sha256(text).hexdigest(), anchors[-1]
    if (bundle.version, digest) == (holding.version, holding.digest):
        return None
    if bundle.version <= holding.version:
        raise _doubt(Doubt.ROLLED_BACK, bundle, f"version {holding.version} is held")
    if not is_signed(load(signer), bundle.signature, text):
        raise _doubt(Doubt.FORGED, bundle, "its last anchor did not sign it")
    if _who(signer) not in {_who(der) for der in (*holding.anchors, *links)}:
        raise _doubt(Doubt.UNCHAINED, bundle, "no anchor that is held has vouched for the one that signed it")
    if strange := [der for der in anchors if not _is_root(load(der))]:
        raise _doubt(Doubt.UNREADABLE, bundle, f"{anchor_id(strange[0])[:16]} is no root")
    return NewTrust(
        realm=bundle.realm,
        version=bundle.version,
        digest=digest,
        anchors=anchors,
        dropped=tuple(der for der in holding.anchors if der not in anchors),
    )


def follow(links: Sequence[bytes], anchors: Sequence[bytes], *, now: datetime) -> tuple[bytes, ...]:
    """Return those link certificates that lead away from the anchors, each after the one that signed it.

    A link leads forward only: one that begins before the anchor that signed it is for chains that
    end at the older root, and leads nobody back to a root that was given up.
    """
    reached = [load(der) for der in anchors]
    left = {der: load(der) for der in links}
    found: list[bytes] = []
    while forward := next((der for der, link in left.items() if _leads_on(link, reached, now)), None):
        reached.append(left.pop(forward))
        found.append(forward)
    return tuple(found)


def is_signed(signer: x509.Certificate, signature: bytes, message: bytes) -> bool:
    """Tell whether the key of a certificate made a signature, with the hash that goes with its strength."""
    key = signer.public_key()
    try:
        match key:
            case ed25519.Ed25519PublicKey():
                key.verify(signature, message)
            case ec.EllipticCurvePublicKey():
                strong = key.key_size > _SHA256_BITS
                key.verify(signature, message, ec.ECDSA(hashes.SHA384() if strong else hashes.SHA256()))
            case rsa.RSAPublicKey():
                key.verify(signature, message, PKCS1v15(), hashes.SHA256())
            case _:
                return False
    except InvalidSignature:
        return False
    return True


def _leads_on(link: x509.Certificate, reached: Sequence[x509.Certificate], now: datetime) -> bool:
    if not _is_ca(link) or not is_valid_at(link, now):
        return False
    begins, _ = lifetime(link)
    return any(begins >= lifetime(by)[0] and is_issued_by(link, by) for by in reached)


def _is_root(certificate: x509.Certificate) -> bool:
    return _is_ca(certificate) and is_issued_by(certificate, certificate)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False  # RFC 5280 4.2.1.9


def _who(der: bytes) -> tuple[bytes, bytes]:
    """Return name and key: a root and the link certificates for it are the same party."""
    certificate = load(der)
    return certificate.subject.public_bytes(), public_key_der(certificate)


def _doubt(doubt: Doubt, bundle: TrustBundle, why: str) -> UntrustedBundleError:
    return UntrustedBundleError(
        f"the trust bundle {bundle.version} of {bundle.realm} is not taken, {doubt}: {why}",
        word=doubt,
        hint="nothing was changed; device-agent trust shows what is held",
    )
