"""The hash of a key is found in a file of any kind that holds it, and in no other."""

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x448
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from fleet.ca.key_files import key_hash_of
from fleet.core.goodkey import key_hash
from fleet.errors import BadInputError
from tests.homes import FleetHome

KEY = ec.generate_private_key(ec.SECP256R1())


def csr(encoding: Encoding) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(encoding)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_requests_and_keys_are_read_in_both_encodings(encoding: Encoding) -> None:
    public = KEY.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    private = KEY.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption())

    for content in (csr(encoding), public, private):
        assert key_hash_of(content, name="file") == key_hash(KEY.public_key())


def test_a_certificate_is_read(fleet_home: FleetHome) -> None:
    root = fleet_home.authority.roots[0].certificate

    for encoding in (Encoding.PEM, Encoding.DER):
        found = key_hash_of(root.public_bytes(encoding), name="file")
        assert found == key_hash_of(
            root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), name="file"
        )


def test_a_key_that_is_never_certified_needs_no_blocking() -> None:
    public = x448.X448PrivateKey.generate().public_key()
    with pytest.raises(BadInputError, match="not certified here"):
        key_hash_of(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), name="file")


@given(st.binary(max_size=200))
def test_any_other_bytes_hold_no_key(content: bytes) -> None:
    with contextlib.suppress(BadInputError):
        assert len(key_hash_of(content, name="file")) == 64
