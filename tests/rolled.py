"""Roots that were rolled over, for tests: new roots, links between them, and the bundles that say so."""

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.core.certificates import anchor_id, lifetime
from device_agent.wire.proofs import trust_text
from device_agent.wire.trust import TrustBundle
from tests.pki import Authority, pem_of, utc_now

_SERIALS = itertools.count(0x50 << 120)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def link(signer: Authority, new: Authority, *, not_before: datetime | None = None) -> x509.Certificate:
    """Return a certificate for a root's name and key, signed by another root."""
    usage = new.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(new.certificate.subject)
        .issuer_name(signer.certificate.subject)
        .public_key(new.key.public_key())
        .serial_number(next(_SERIALS))
        .not_valid_before(not_before or lifetime(signer.certificate)[0])
        .not_valid_after(utc_now() + timedelta(days=29))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(new.key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
        )
        .add_extension(usage, critical=True)
    )
    return builder.sign(signer.key, hashes.SHA256())


def back_link(old: Authority, new: Authority) -> x509.Certificate:
    """Return the other of the two: the new root vouches for the old one, for chains that end there."""
    return link(new, old, not_before=lifetime(old.certificate)[0] - timedelta(seconds=1))


def bundle(
    *anchors: Authority,
    version: int = 1,
    realm: str = "prod",
    fleet: str = "acme",
    links: Sequence[x509.Certificate] = (),
    signer: Authority | None = None,
) -> TrustBundle:
    """Return a bundle, signed by its last anchor unless told otherwise."""
    text = trust_text(
        fleet=fleet,
        realm=realm,
        version=version,
        anchors=[anchor_id(der(anchor.certificate)) for anchor in anchors],
    )
    return TrustBundle(
        realm=realm,
        version=version,
        anchors="".join(pem_of(anchor.certificate).decode() for anchor in anchors),
        links="".join(pem_of(each).decode() for each in links) or None,
        signature=(signer or anchors[-1]).key.sign(text, ec.ECDSA(hashes.SHA256())),
    )
