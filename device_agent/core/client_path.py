"""Judges the path of a client certificate up to an anchor, by RFC 5280 6.1.

The library does it where it can (cryptography 43). Before that, the rules stand here, narrower than its own:
what is not known is refused, and so is every path that names are constrained on.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from device_agent.core.certificates import UNREADABLE
from device_agent.core.issuing import is_issued_by, is_valid_at

try:
    from cryptography.x509 import verification

    HAS_VERIFIER = hasattr(verification.PolicyBuilder, "build_client_verifier")
except ImportError:
    HAS_VERIFIER = False

_KNOWN = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}
"""What may be critical, for it is looked at here or in `acceptance`."""
_CLIENT = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_LEAST_RSA_BITS = 2048
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


class PathError(Exception):
    """There is no path to an anchor that may be taken."""


def require_client_path(
    chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], *, now: datetime
) -> None:
    """Check a chain, leaf first, whose other certificates may stand in any order; raises `PathError`."""
    if HAS_VERIFIER:
        _by_library(chain, anchors, now)
    else:
        by_own_rules(chain, anchors, now)


def _by_library(
    chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], now: datetime
) -> None:
    try:
        store, depth = verification.Store(list(anchors)), len(chain)
        policy = verification.PolicyBuilder().store(store).time(now).max_chain_depth(depth)
        policy.build_client_verifier().verify(chain[0], list(chain[1:]))
    except verification.VerificationError as error:
        raise PathError(str(error)) from error
    except UNREADABLE as error:
        # It reads an extension only when it comes to it.
        raise PathError(f"a certificate cannot be read: {error}") from error


def by_own_rules(
    chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], now: datetime
) -> None:
    """Check a chain without the library's verifier; raises as `require_client_path`.

    It steps up from the leaf level by level, so each CA is met with the fewest CAs below it that it can have.
    """
    level, left, below = [chain[0]], list(chain[1:]), 0
    try:
        if not _is_usable(chain[0], now):
            raise PathError("the leaf is not valid now, or holds what this agent does not know")
        while level:
            if _issuers(level, anchors, now=now, below=below):
                return
            level = _issuers(level, left, now=now, below=below)
            left = [other for other in left if other not in level]
            below += 1
    except UNREADABLE as error:
        raise PathError(f"a certificate cannot be read: {error}") from error
    raise PathError("candidates exhausted: no anchor has issued any of these, and may do so")


def _issuers(
    level: Sequence[x509.Certificate],
    candidates: Sequence[x509.Certificate],
    *,
    now: datetime,
    below: int,
) -> list[x509.Certificate]:
    """Return those that issued one of a level, and may have `below` CAs between them and the leaf."""
    named = [one for one in candidates if any(is_issued_by(at, one) for at in level)]
    return [one for one in named if _is_usable(one, now) and _may_issue(one, below)]


def _may_issue(issuer: x509.Certificate, below: int) -> bool:
    """RFC 5280 4.2.1.3, .9 and .12: a CA, that signs certificates, those of clients too, at this height."""
    constraints = _find(issuer, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        return False
    if constraints.path_length is not None and constraints.path_length < below:
        return False
    usage, purposes = _find(issuer, x509.KeyUsage), _find(issuer, x509.ExtendedKeyUsage)
    return usage is not None and usage.key_cert_sign and (purposes is None or bool(_CLIENT & set(purposes)))


def _is_usable(certificate: x509.Certificate, now: datetime) -> bool:
    return (
        certificate.version is x509.Version.v3
        and is_valid_at(certificate, now)
        and isinstance(certificate.signature_hash_algorithm, _DIGESTS)
        and _is_strong(certificate)
        and all(_is_known(extension) for extension in certificate.extensions)
    )


def _is_known(extension: x509.Extension[x509.ExtensionType]) -> bool:
    """RFC 5280 4.2: what is critical must be understood; names that are constrained must be, even if not."""
    if extension.oid == ExtensionOID.NAME_CONSTRAINTS:
        return False
    return extension.oid in _KNOWN or not extension.critical


def _is_strong(certificate: x509.Certificate) -> bool:
    match certificate.public_key():
        case ec.EllipticCurvePublicKey(curve=curve):
            return isinstance(curve, _CURVES)
        case rsa.RSAPublicKey(key_size=bits):
            return bits >= _LEAST_RSA_BITS
        case _:
            return False


def _find(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
