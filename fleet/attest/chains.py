"""Paths from a manufacturer's certificate to the anchors that a domain has for it (RFC 5280 6).

The end of a path may be of any kind, as IDevIDs and TPM certificates are; what stands between must be CAs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from fleet.attest.proof import refusal
from fleet.core.unreadable import UNREADABLE

MAX_CHAIN = 8
"""Certificates that a device may send beside its own."""
_DEPTH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Whom a domain believes about its devices; `name` is the manufacturer's in fleet.toml."""

    name: str
    certificates: tuple[x509.Certificate, ...]


def read_chain(pem: str | None) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM text; raises `RefusedError`."""
    if pem is None:
        return ()
    try:
        found = x509.load_pem_x509_certificates(pem.encode("ascii", "replace"))
    except UNREADABLE as error:
        raise refusal("a certificate of the proof cannot be read") from error
    if len(found) > MAX_CHAIN:
        raise refusal(f"the proof holds more than {MAX_CHAIN} certificates in a chain")
    return tuple(found)


def read_one(pem: str) -> x509.Certificate:
    """Return the one certificate of a PEM text; raises `RefusedError`."""
    found = read_chain(pem)
    if len(found) != 1:
        raise refusal("the proof must hold exactly one certificate here")
    return found[0]


def reaches(
    leaf: x509.Certificate, chain: Sequence[x509.Certificate], anchors: Anchors, *, at: datetime
) -> bool:
    """Tell whether a path of CAs, in their time, leads from a certificate to an anchor.

    An anchor that stands below its root helps with the path as well: devices often leave out what is between.
    """
    if leaf in anchors.certificates:
        return False  # an anchor is a CA's; nobody proves to be a device by it
    between = [*chain, *anchors.certificates]
    # TPM vendors and makers of IDevIDs follow no web profile at the end of the path; the caller looks at it.
    policies = (ExtensionPolicy.webpki_defaults_ca(), ExtensionPolicy.permit_all())
    try:
        builder = PolicyBuilder().store(Store(list(anchors.certificates))).time(at).max_chain_depth(_DEPTH)
        builder = builder.extension_policies(ca_policy=policies[0], ee_policy=policies[1])
        builder.build_client_verifier().verify(leaf, between)
    except VerificationError:
        return False
    except UNREADABLE:
        return False
    return True
