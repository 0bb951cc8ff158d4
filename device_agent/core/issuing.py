"""Who signed a certificate, and whether it lives at a moment: with every release of cryptography since 38.

Debian 12 has 38 and Yocto scarthgap 42; what later ones bring stands here once, in the older words.
"""

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from device_agent.core.certificates import UNREADABLE, lifetime


def is_valid_at(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether a moment is in a certificate's life (RFC 5280 4.1.2.5: both ends count)."""
    begins, ends = lifetime(certificate)
    return begins <= now <= ends


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether a certificate names another as its issuer, and that one's key signed it."""
    try:
        if hasattr(certificate, "verify_directly_issued_by"):  # cryptography 40
            certificate.verify_directly_issued_by(issuer)
        else:
            _require_signed(certificate, issuer)
    except (*UNREADABLE, LookupError, InvalidSignature):
        return False
    return True


def _require_signed(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Raises ValueError or InvalidSignature, as the library's own way does."""
    if certificate.issuer != issuer.subject:
        raise ValueError("the issuer has another name")
    key, digest = issuer.public_key(), certificate.signature_hash_algorithm
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    match key:
        case ed25519.Ed25519PublicKey():
            key.verify(signature, signed)
        case ec.EllipticCurvePublicKey() if digest is not None:
            key.verify(signature, signed, ec.ECDSA(digest))
        case rsa.RSAPublicKey() if digest is not None:
            key.verify(signature, signed, PKCS1v15(), digest)
        case _:
            raise ValueError("signed in a way that is not known")
