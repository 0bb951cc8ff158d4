"""A key that is made for a device arrives there, and whoever asks for it otherwise gets none."""

import base64
import email
import email.policy
import os
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509.name import _ASN1Type

from device_agent.wire.problems import ProblemCode
from fleet.ca.cms import RANDOM_BYTES, Sender, key_identifier
from fleet.ca.signers import KeySigner
from fleet.channels.est_keygen import delivered, make_key
from fleet.core.csr import read_csr
from fleet.errors import RefusedError
from tests.unit.fleet.ca.test_cms import certificate_of

DECRYPT_WITH = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.54")


def request_of(key: ec.EllipticCurvePrivateKey, wanted: bytes | None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if wanted is not None:
        builder = builder.add_attribute(DECRYPT_WITH, wanted, _tag=_ASN1Type.OctetString)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.mark.needs("openssl")
def test_the_key_and_its_certificate_come_in_two_parts_and_fit(tmp_path: Path) -> None:
    device, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    shown = certificate_of(device)
    made = make_key(
        request_of(device, key_identifier(shown)), shown=shown.public_bytes(Encoding.DER), device_id="d1"
    )
    assert read_csr(made.csr).common_names == ("d1",)
    leaf = certificate_of(made.key).public_bytes(Encoding.PEM).decode()
    sender = Sender(certificate=certificate_of(server), signer=KeySigner(server))
    answer = delivered(made, leaf, sender=sender, randomness=os.urandom(RANDOM_BYTES))
    whole = f"Content-Type: {answer.content_type}\r\n\r\n".encode() + answer.body
    key_part, leaf_part = email.message_from_bytes(whole, policy=email.policy.HTTP).iter_parts()
    assert key_part["Content-Type"].params["smime-type"] == "server-generated-key"
    (found,) = load_der_pkcs7_certificates(base64.b64decode(leaf_part.get_payload()))
    sealed, key_pem = tmp_path / "sealed", tmp_path / "device.key"
    sealed.write_bytes(base64.b64decode(key_part.get_payload()))
    key_pem.write_bytes(device.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", sealed, "-inkey", key_pem, "-binary"]
    opened = subprocess.run(command, check=True, capture_output=True).stdout
    package = made.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert package in opened
    assert package not in answer.body
    assert found.public_key() == made.key.public_key()


@pytest.mark.parametrize("wanted", [None, b"", b"\x01" * 20])
def test_a_key_leaves_for_the_shown_certificate_s_key_alone(wanted: bytes | None) -> None:
    device = ec.generate_private_key(ec.SECP256R1())
    shown = certificate_of(device).public_bytes(Encoding.DER)
    with pytest.raises(RefusedError) as refused:
        make_key(request_of(device, wanted), shown=shown, device_id="d1")
    assert refused.value.code is ProblemCode.BAD_CSR


def test_no_key_is_made_for_a_connection_that_shows_nothing() -> None:
    device = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(RefusedError, match="device's own"):
        make_key(request_of(device, b"1"), shown=None, device_id="d1")
