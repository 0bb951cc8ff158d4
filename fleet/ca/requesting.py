"""Asks a CA above for the certificate of an issuing CA of ours: a CSR (RFC 2986), proved by the key in it."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.ca.building import key_usage, subject_name
from fleet.ca.signers import PrivateKey, hash_of
from fleet.core.profile import ISSUING_PROFILE, authority_applicant


def authority_csr(key: PrivateKey, common_name: str, *, fleet: str) -> str:
    """Return the request, PEM: what we should have, which the CA above may grant or change."""
    profile = ISSUING_PROFILE
    public_key = key.public_key()
    constraints = x509.BasicConstraints(ca=profile.is_ca, path_length=profile.path_length)
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject_name(authority_applicant(common_name, fleet=fleet)))
        .add_extension(constraints, critical=True)
        .add_extension(key_usage(profile.key_usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    return builder.sign(key, hash_of(public_key)).public_bytes(Encoding.PEM).decode()
