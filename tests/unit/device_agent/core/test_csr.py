"""Requests that a stock parser reads as PKCS#10."""

from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.core.csr import csr_der, csr_pem
from device_agent.wire.problems import MalformedMessageError

KEY = ec.generate_private_key(ec.SECP256R1())
DEVICE_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,63}", fullmatch=True)


class PublicKey(Protocol):
    """What every kind of public key of the library has."""

    def public_bytes(self, encoding: Encoding, format: PublicFormat) -> bytes: ...  # noqa: A002 - its name there


def spki(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(message: bytes) -> bytes:
    return KEY.sign(message, ec.ECDSA(hashes.SHA256()))


@settings(max_examples=50)
@given(device_id=DEVICE_IDS)
def test_a_request_names_the_device_holds_the_key_and_proves_possession(device_id: str) -> None:
    der = csr_der(device_id, public_key_der=spki(KEY.public_key()), sign=sign)
    csr = x509.load_pem_x509_csr(csr_pem(der).encode())
    assert csr.is_signature_valid
    assert spki(csr.public_key()) == spki(KEY.public_key())
    assert [name.value for name in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [device_id]
    assert csr.public_bytes(Encoding.DER) == der


def test_a_request_for_an_rsa_key_is_signed_with_pkcs1() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    der = csr_der(
        "d1",
        public_key_der=spki(key.public_key()),
        sign=lambda message: key.sign(message, padding.PKCS1v15(), hashes.SHA256()),
    )
    assert x509.load_der_x509_csr(der).is_signature_valid


def test_a_request_for_an_ed25519_key_is_signed_over_the_message_whole() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    der = csr_der("d1", public_key_der=spki(key.public_key()), sign=key.sign)
    assert x509.load_der_x509_csr(der).is_signature_valid


def test_a_key_of_another_kind_is_refused() -> None:
    key = ed448.Ed448PrivateKey.generate().public_key()
    with pytest.raises(ValueError, match="neither"):
        csr_der("d1", public_key_der=spki(key), sign=sign)


def test_a_request_asks_for_no_extension() -> None:
    csr = x509.load_der_x509_csr(csr_der("d1", public_key_der=spki(KEY.public_key()), sign=sign))
    assert list(csr.extensions) == []


def test_a_name_that_is_no_device_id_is_refused() -> None:
    with pytest.raises(MalformedMessageError):
        csr_der("a/b", public_key_der=spki(KEY.public_key()), sign=sign)
