"""Requests (RFC 2986) for keys of ours: of an issuing CA to the CA above it, of a station to its server."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.ca import der
from fleet.ca.building import key_usage, subject_name
from fleet.ca.signers import PrivateKey, Signer, checked_signature, hash_of
from fleet.core.profile import ISSUING_PROFILE, Applicant, authority_applicant

_NO_ATTRIBUTES = bytes((0xA0, 0x00))
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")  # RFC 5758 3.2


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


def signer_csr(signer: Signer, common_name: str) -> str:
    """Return the request of a P-256 key wherever it lives, PEM; it asks for a name and nothing else.

    Raises:
        FleetError: the key cannot be used.
    """
    public_key = signer.public_key
    info = der.sequence(
        der.tlv(der.INTEGER, b"\0"),
        subject_name(Applicant(common_name=common_name)).public_bytes(),
        public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        _NO_ATTRIBUTES,
    )
    signature = checked_signature(info, signer, public_key=public_key)
    encoded = der.signed(info, algorithm=_ECDSA_WITH_SHA256, signature=signature)
    return der.pem("CERTIFICATE REQUEST", encoded).decode()
