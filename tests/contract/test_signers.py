"""One suite on every signer of the authority: keys in encrypted files, and keys in a token."""

from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from device_agent.wire.secret import Secret
from fleet.ca.issuer import pem_of
from fleet.ca.requesting import authority_csr
from fleet.ca.signers import (
    ClassicPrivateKey,
    FileSigner,
    Signer,
    encrypted_pem,
    hash_of,
    is_signed,
    make_authority_key,
    rehearsal_key,
    sign_instead,
)
from fleet.ca.token_key import builder_key
from fleet.ca.token_keys import TokenKeys, parse_token
from fleet.core.goodkey import KeyType
from fleet.files import write_file
from tests.tokens import SoftHsm

NOW = datetime(2030, 6, 1, tzinfo=UTC)
KINDS = (KeyType.P256, KeyType.P384, KeyType.RSA)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
Make = Callable[[KeyType], Signer]


def in_file(folder: Path, kind: KeyType) -> Signer:
    key, path, passphrase = make_authority_key(kind), folder / f"{kind}.key", Secret("passphrase")
    write_file(path, encrypted_pem(key, passphrase, randomness=bytes(32), work_factor=4))
    return FileSigner(path, passphrase=passphrase, public_key=key.public_key())


def in_token(hsm: SoftHsm, folder: Path, kind: KeyType) -> Signer:
    keys, file = TokenKeys(folder / "refused"), folder / f"{kind}.pkcs11"
    made = keys.make(file, parse_token(hsm.token().uri), label=f"acme.{kind}", key_type=kind)
    return TokenKeys().signer(file, made.public_key)


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as made:
        yield made


@pytest.fixture(
    scope="module", params=["file", pytest.param("token", marks=pytest.mark.needs("softhsm2-util"))]
)
def signers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[KeyType, Signer]:
    folder = tmp_path_factory.mktemp("keys")
    if request.param == "file":
        return {kind: in_file(folder, kind) for kind in KINDS}
    hsm: SoftHsm = request.getfixturevalue("hsm")
    return {kind: in_token(hsm, folder, kind) for kind in KINDS}


def as_key(signer: Signer) -> ClassicPrivateKey:
    return builder_key(signer)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_signed_is_of_the_key(signers: dict[KeyType, Signer], kind: KeyType) -> None:
    signer = signers[kind]
    signer.unlock()
    assert is_signed(signer.public_key, signer.sign(b"message"), b"message")
    assert not is_signed(signer.public_key, signer.sign(b"message"), b"another")
    assert is_signed(signer.public_key, signer.sign(b""), b"")


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_gets_the_signature_in_place_of_a_rehearsal(
    signers: dict[KeyType, Signer], kind: KeyType
) -> None:
    signer = signers[kind]
    builder = certificate_builder().public_key(signer.public_key)
    rehearsed = builder.sign(rehearsal_key(signer.public_key), hash_of(signer.public_key))
    signed = sign_instead(rehearsed.public_bytes(Encoding.DER), signer, public_key=signer.public_key)
    certificate = x509.load_pem_x509_certificate(pem_of(signed).encode())
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize("kind", KINDS)
def test_every_builder_takes_it_as_a_key(signers: dict[KeyType, Signer], kind: KeyType) -> None:
    signer = signers[kind]
    key, digest = as_key(signer), hash_of(signer.public_key)
    certificate = certificate_builder().public_key(signer.public_key).sign(key, digest)
    certificate.verify_directly_issued_by(certificate)
    assert x509.load_pem_x509_csr(authority_csr(key, "ca", fleet="acme").encode()).is_signature_valid
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(NAME)
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
        .sign(key, digest)
    )
    assert crl.is_signature_valid(signer.public_key)
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            certificate, certificate, hashes.SHA256(), ocsp.OCSPCertStatus.GOOD, NOW, NOW, None, None
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, certificate)
        .sign(key, digest)
    )
    assert is_signed(signer.public_key, answer.signature, answer.tbs_response_bytes)
    signed = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(b"data")
        .add_signer(certificate, key, digest or hashes.SHA256())
        .sign(Encoding.DER, [pkcs7.PKCS7Options.Binary])
    )
    assert b"data" in signed


@pytest.mark.parametrize("kind", KINDS)
def test_as_a_key_it_signs_with_its_own_hash_and_does_nothing_else(
    signers: dict[KeyType, Signer], kind: KeyType
) -> None:
    key = as_key(signers[kind])
    assert copy(key) is key
    assert deepcopy(key) is key
    with pytest.raises(UnsupportedAlgorithm):
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if isinstance(key, rsa.RSAPrivateKey):
        for refused in (
            key.private_numbers,
            lambda: key.decrypt(b"", padding.PKCS1v15()),
            lambda: key.sign(b"", padding.PKCS1v15(), hashes.SHA512()),
            lambda: key.sign(b"", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
        ):
            with pytest.raises(UnsupportedAlgorithm):
                refused()
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        peer = ec.generate_private_key(key.curve).public_key()
        for refused in (
            key.private_numbers,
            lambda: key.exchange(ec.ECDH(), peer),
            lambda: key.sign(b"", ec.ECDSA(hashes.SHA512())),
        ):
            with pytest.raises(UnsupportedAlgorithm):
                refused()


def certificate_builder() -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
