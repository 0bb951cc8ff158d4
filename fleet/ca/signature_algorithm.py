"""Names the algorithm that a key of ours signs with, as an AlgorithmIdentifier (RFC 5280 4.1.1.2)."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.x509.oid import SignatureAlgorithmOID

from fleet.ca import der
from fleet.ca.signers import hash_of
from fleet.core.goodkey import CertifiedKey


def signature_algorithm(public_key: CertifiedKey) -> bytes:
    """Return the AlgorithmIdentifier (DER) of the signatures that `Signer.sign` makes with this key."""
    match public_key:
        case ec.EllipticCurvePublicKey():
            strong = isinstance(hash_of(public_key), hashes.SHA384)
            # RFC 5758 3.2, RFC 8410 3, RFC 9881 2: no parameters.
            return _named(
                SignatureAlgorithmOID.ECDSA_WITH_SHA384 if strong else SignatureAlgorithmOID.ECDSA_WITH_SHA256
            )
        case ed25519.Ed25519PublicKey():
            return _named(SignatureAlgorithmOID.ED25519)
        case mldsa.MLDSA44PublicKey():
            return _named(SignatureAlgorithmOID.ML_DSA_44)
        case mldsa.MLDSA65PublicKey():
            return _named(SignatureAlgorithmOID.ML_DSA_65)
        case _:
            # RFC 4055 5: with RSA the parameters are NULL.
            return _named(SignatureAlgorithmOID.RSA_WITH_SHA256, der.NULL)


def _named(name: x509.ObjectIdentifier, parameters: bytes = b"") -> bytes:
    return der.sequence(der.object_identifier(name.dotted_string), parameters)
