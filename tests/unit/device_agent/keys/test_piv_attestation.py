"""What a PIV token has said of its keys is found in a folder of certificates, or what is missing is said."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.errors import KeyStoreError
from device_agent.keys.piv_attestation import read_attestation
from tests.pki import pem_of
from tests.yubikeys import YubiKey

KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(2))
KEY_DER = KEY.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
YUBIKEY = YubiKey()


def test_the_attestation_of_the_key_is_found_with_what_is_above_it(tmp_path: Path) -> None:
    YUBIKEY.write(tmp_path, OTHER)
    attestation = YUBIKEY.attests(KEY)
    (tmp_path / "another.pem").write_bytes(pem_of(YUBIKEY.root.certificate) + pem_of(attestation))
    found = read_attestation(tmp_path, KEY_DER)
    assert found.certificate == pem_of(attestation).decode()
    assert found.chain == pem_of(YUBIKEY.f9.certificate).decode()


def test_an_attestation_with_nothing_above_it_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(pem_of(YUBIKEY.attests(KEY)))
    assert read_attestation(tmp_path, KEY_DER).chain is None


def test_certificates_that_name_each_other_come_to_an_end(tmp_path: Path) -> None:
    one = YUBIKEY.root.authority("one")
    two = one.authority("two")
    again = two.authority("one")
    leaf = two.signs("YubiKey PIV Attestation 9a", KEY)
    (tmp_path / "a.pem").write_bytes(b"".join(map(pem_of, (leaf, two.certificate, again.certificate))))
    chain = read_attestation(tmp_path, KEY_DER).chain
    assert (chain or "").count("BEGIN CERTIFICATE") <= 6


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "no .pem files"), (b"nothing", "no certificates in PEM"), (b"x" * 60_000, "larger than")],
)
def test_a_folder_without_certificates_is_told(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / "a.pem").write_bytes(content)
    with pytest.raises(KeyStoreError, match=why):
        read_attestation(tmp_path, KEY_DER)


def test_a_folder_that_attests_other_keys_is_told_with_what_to_do(tmp_path: Path) -> None:
    YUBIKEY.write(tmp_path, OTHER)
    with pytest.raises(KeyStoreError, match="attests the key") as caught:
        read_attestation(tmp_path, KEY_DER)
    assert "ykman piv keys attest" in str(caught.value.hint)
