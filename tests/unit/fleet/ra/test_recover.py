"""Proofs of possession: a signature by the certificate's own key over the very text, for each type of key."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

from fleet.ca.signers import PrivateKey, hash_of, make_authority_key
from fleet.core.goodkey import KeyType
from fleet.ra.requests.recover import is_signed_by
from tests.homes import utc_now

TEXT = b"what a device signs to be heard"


def certificate_of(key: PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "d1")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=utc_now(),
        not_valid_after=utc_now() + timedelta(days=1),
    )
    return builder.sign(key, hash_of(key.public_key()))


def signed(key: PrivateKey, text: bytes) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(text, ec.ECDSA(hashes.SHA256()))
        case RSAPrivateKey():
            return key.sign(text, PKCS1v15(), hashes.SHA256())
        case _:
            return key.sign(text)


@pytest.mark.parametrize("key_type", KeyType)
def test_a_signature_proves_this_key_and_this_text_alone(key_type: KeyType) -> None:
    key, other = make_authority_key(key_type), make_authority_key(key_type)
    certificate = certificate_of(key)

    assert is_signed_by(certificate, signed(key, TEXT), TEXT)
    assert not is_signed_by(certificate, signed(key, TEXT), TEXT + b".")
    assert not is_signed_by(certificate, signed(other, TEXT), TEXT)
    assert not is_signed_by(certificate, b"", TEXT)
