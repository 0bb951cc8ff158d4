"""A key that is sent arrives at the one it was sent to, as OpenSSL sees it, and at nobody else."""

import datetime
import os
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

from fleet.ca import der
from fleet.ca.cms import RANDOM_BYTES, Sender, key_identifier, sealed_key
from fleet.ca.signers import KeySigner, PrivateKey
from fleet.errors import RefusedError

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


def certificate_of(key: PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0x1234)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def openssl(*arguments: str | Path) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("recipient", KEYS.values(), ids=KEYS.keys())
@pytest.mark.parametrize("sender", KEYS.values(), ids=KEYS.keys())
def test_openssl_opens_it_and_finds_the_sender_s_signature(
    tmp_path: Path, recipient: type[PrivateKey], sender: type[PrivateKey]
) -> None:
    mine, theirs, sent = sender(), recipient(), ec.generate_private_key(ec.SECP256R1())
    shown = certificate_of(theirs)
    sealed = sealed_key(
        sent,
        sender=Sender(certificate=certificate_of(mine), signer=KeySigner(mine)),
        recipient=shown,
        randomness=os.urandom(RANDOM_BYTES),
    )
    pem = theirs.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    inner = openssl(
        "cms", "-decrypt", "-inform", "DER", "-in", write(tmp_path / "sealed", sealed),
        "-recip", write(tmp_path / "recipient.crt", shown.public_bytes(Encoding.PEM)),
        "-inkey", write(tmp_path / "recipient.key", pem), "-binary",
    )  # fmt: skip
    signed = der.sequence(bytes.fromhex("06092a864886f70d010702"), der.tlv(0xA0, inner))
    trust = write(tmp_path / "sender.crt", certificate_of(mine).public_bytes(Encoding.PEM))
    package = openssl(
        "cms", "-verify", "-inform", "DER", "-in", write(tmp_path / "signed", signed),
        "-nointern", "-certfile", trust, "-noverify", "-binary",
    )  # fmt: skip
    (key,) = der.elements(package)
    assert load_der_private_key(key, None).private_numbers() == sent.private_numbers()  # type: ignore[union-attr]


def test_nothing_is_sent_to_a_key_that_only_signs() -> None:
    mine, theirs = KEYS["P-256"](), ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    shown = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(theirs.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .sign(theirs, None)
    )
    sender = Sender(certificate=certificate_of(mine), signer=KeySigner(mine))
    with pytest.raises(RefusedError, match="RSA or elliptic-curve"):
        sealed_key(mine, sender=sender, recipient=shown, randomness=bytes(RANDOM_BYTES))


def test_a_certificate_that_names_no_key_identifier_has_the_usual_one() -> None:
    shown = certificate_of(KEYS["P-256"]())
    assert key_identifier(shown) == x509.SubjectKeyIdentifier.from_public_key(shown.public_key()).digest
