"""PKCS#12: what goes in comes out under the password, and under no other."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from fleet.ca.pkcs12 import make_pkcs12, new_password
from fleet.ca.signers import load_key
from fleet.files import read_secret
from tests.homes import FleetHome


def test_an_operators_file_holds_key_certificate_and_chain(fleet_home: FleetHome) -> None:
    files = fleet_home.home.operator("admin")
    password = read_secret(files.p12_password)
    found = load_pkcs12(files.p12.read_bytes(), password.reveal().encode())
    leaf, issuer = x509.load_pem_x509_certificates(files.certificate.read_bytes())
    assert found.key is not None
    assert found.key.public_key() == load_key(files.key, passphrase=None).public_key()
    assert found.cert is not None
    assert (found.cert.certificate, found.cert.friendly_name) == (leaf, b"admin")
    assert [one.certificate for one in found.additional_certs] == [issuer]


def test_another_password_opens_nothing(fleet_home: FleetHome) -> None:
    with pytest.raises(ValueError, match="password"):
        load_pkcs12(fleet_home.home.operator("admin").p12.read_bytes(), b"wrong")


def test_it_is_sealed_with_the_modern_algorithms(fleet_home: FleetHome) -> None:
    content = fleet_home.home.operator("admin").p12.read_bytes()
    aes_256_cbc, sha1_3des = (
        bytes.fromhex("060960864801650304012a"),
        bytes.fromhex("060a2a864886f70d010c0103"),
    )
    assert aes_256_cbc in content
    assert sha1_3des not in content


def test_a_password_is_made_of_all_its_randomness() -> None:
    assert new_password(bytes(20)) != new_password(bytes(19) + b"\x01")
    assert len(new_password(bytes(range(20))).reveal()) == 32
    with pytest.raises(ValueError, match="20 octets"):
        new_password(b"short")


def test_a_chain_may_be_empty(fleet_home: FleetHome) -> None:
    files = fleet_home.home.operator("admin")
    leaf = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
    password = new_password(bytes(20))
    content = make_pkcs12(
        "admin", load_key(files.key, passphrase=None), certificate=leaf, chain=(), password=password
    )
    assert load_pkcs12(content, password.reveal().encode()).additional_certs == []
