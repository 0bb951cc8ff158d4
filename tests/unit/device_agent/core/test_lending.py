"""A lent key signs data, and nothing by which somebody could be taken for the device."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.lending import reason_against
from device_agent.core.rate import Rate
from device_agent.wire.proofs import idevid_text, recovery_text


def request() -> x509.CertificateSigningRequest:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "d1")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())


FORBIDDEN = {
    "recovery": recovery_text(fleet="acme", domain="prod", nonce="0f", request=b"{}"),
    "maker": idevid_text(fleet="acme", domain="prod", device_id="d1", nonce="0f", key_hash="a"),
    "request body": request().tbs_certrequest_bytes,
    "whole request": request().public_bytes(Encoding.DER),
    "TLS 1.3": b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + b"h" * 32,
    "TLS 1.2": b"\x01\x00\x00\x64\x03\x03" + b"r" * 96,
    "DTLS 1.2": b"\x01\x00\x00\x64\x00\x00\x00\x00\x00\x00\x00\x64\xfe\xfd" + b"r" * 96,
    "short DER": b"\x30\x03\x02\x01\x00",
    "DER of a length that is too long": b"\x30\x84\x00\x00\x00\x03\x02\x01\x00",
}


@pytest.mark.parametrize("message", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_speaks_as_the_device_is_not_signed(message: bytes) -> None:
    assert reason_against(message) is not None


@pytest.mark.parametrize("message", [b"", b"0", b"0123", b'{"temperature":21.5}', b" " * 63, b"\x01\x02"])
def test_data_is_signed(message: bytes) -> None:
    assert reason_against(message) is None


@given(st.binary(max_size=300), st.booleans())
def test_every_der_sequence_is_recognised_and_any_bytes_get_a_verdict(content: bytes, shortest: bool) -> None:
    reason_against(content)
    short = len(content) < 0x80 and shortest
    length = bytes([len(content)]) if short else b"\x82" + len(content).to_bytes(2, "big")
    assert reason_against(b"\x30" + length + content) is not None


def test_so_many_at_once_and_then_so_many_a_second() -> None:
    rate = Rate(per_second=2, burst=3)
    assert [rate.allow(100.0) for _ in range(4)] == [True, True, True, False]
    assert [rate.allow(100.5), rate.allow(100.6), rate.allow(101.0)] == [True, False, True]
