"""What a station checks with a unit's own key: its request, and its proof over what was installed."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.core.unreadable import UNREADABLE

_NOT_RIGHT: tuple[type[Exception], ...] = (*UNREADABLE, InvalidSignature)


def is_request_sound(csr: bytes) -> bool:
    """Return whether a DER CSR is signed with the key that it holds (RFC 2986 3)."""
    try:
        return x509.load_der_x509_csr(csr).is_signature_valid
    except UNREADABLE:
        return False


def is_proof_right(leaf: bytes, *, signature: bytes, signed: bytes) -> bool:
    """Return whether the key of a DER certificate signed this, ECDSA with SHA-256."""
    try:
        key = x509.load_der_x509_certificate(leaf).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except _NOT_RIGHT:
        return False
    return True
