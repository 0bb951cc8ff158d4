"""DER: what is written reads back, and agrees with what the library writes."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from fleet.ca import der
from tests.homes import FleetHome


@given(st.lists(st.binary(max_size=400), max_size=5))
def test_elements_of_a_sequence_come_back_as_they_went_in(contents: list[bytes]) -> None:
    elements = tuple(der.tlv(der.OCTET_STRING, content) for content in contents)
    assert der.elements(der.sequence(*elements)) == elements
    assert [der.content(element) for element in elements] == contents


@pytest.mark.parametrize(
    ("length", "header"),
    [(0, "0400"), (127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100"), (65536, "0483010000")],
)
def test_a_length_takes_its_shortest_form(length: int, header: str) -> None:
    assert der.tlv(der.OCTET_STRING, b"x" * length) == bytes.fromhex(header) + b"x" * length


@pytest.mark.parametrize(
    ("number", "encoded"), [(0, "020100"), (127, "02017f"), (128, "02020080"), (16384, "02024000")]
)
def test_an_integer_keeps_its_sign_octet(number: int, encoded: str) -> None:
    assert der.integer(number).hex() == encoded


def test_a_certificate_taken_apart_and_put_together_is_the_same(fleet_home: FleetHome) -> None:
    certificate = fleet_home.authority.roots[0].certificate
    encoded = certificate.public_bytes(Encoding.DER)
    tbs, algorithm, _ = der.elements(encoded)
    assert der.signed(tbs, algorithm=algorithm, signature=certificate.signature) == encoded
    assert tbs == certificate.tbs_certificate_bytes
    assert x509.load_pem_x509_certificate(der.pem("CERTIFICATE", encoded)) == certificate


@given(st.binary(max_size=300))
def test_pem_has_lines_of_64_and_decodes_to_the_same(content: bytes) -> None:
    first, *body, last, end = der.pem("X", content).decode().split("\n")
    assert (first, last, end) == ("-----BEGIN X-----", "-----END X-----", "")
    assert all(len(line) <= 64 for line in body)
    assert base64.b64decode("".join(body)) == content
