"""The name of a signature's algorithm is the one that another encoder writes for the same key."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.ca import der
from fleet.ca.signature_algorithm import signature_algorithm
from fleet.ca.signers import PrivateKey, hash_of
from fleet.core.goodkey import KeyType

AT = datetime(2026, 5, 1, tzinfo=UTC)
KEYS: dict[KeyType, PrivateKey] = {
    KeyType.P256: ec.generate_private_key(ec.SECP256R1()),
    KeyType.P384: ec.generate_private_key(ec.SECP384R1()),
    KeyType.ED25519: ed25519.Ed25519PrivateKey.generate(),
    KeyType.RSA: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    KeyType.ML_DSA_44: mldsa.MLDSA44PrivateKey.generate(),
    KeyType.ML_DSA_65: mldsa.MLDSA65PrivateKey.generate(),
}


@pytest.mark.parametrize("key_type", KeyType)
def test_every_type_of_key_is_named_as_in_a_list_that_it_signed(key_type: KeyType) -> None:
    key = KEYS[key_type]
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([]))
        .last_update(AT)
        .next_update(AT)
        .sign(key, hash_of(key.public_key()))
    )
    _, algorithm, _ = der.elements(crl.public_bytes(Encoding.DER))
    assert signature_algorithm(key.public_key()) == algorithm
