"""EST as a client reads it: URLs, waits, answers, and the way up from a leaf."""

import base64
import contextlib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.certificates import lifetime
from device_agent.core.csr import subject_der
from device_agent.core.est import (
    DEFAULT_RETRY_SECONDS,
    EstServer,
    Place,
    certificates_in,
    chain_of,
    decoded,
    retry_seconds,
    wants_link,
)
from device_agent.core.est_request import names_of, request
from device_agent.wire.fields import MAX_BODY_BYTES
from device_agent.wire.problems import MalformedMessageError
from tests.pki import Authority, Pair

KEY = ec.generate_private_key(ec.SECP256R1())
ROOT = Authority.root("Root")
ISSUING = ROOT.issuing("Issuing")
LEAF = ISSUING.leaf("d1", hosts=["d1.plant.example"])


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def key_of(pair: Pair) -> bytes:
    return pair.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(message: bytes) -> bytes:
    return KEY.sign(message, ec.ECDSA(hashes.SHA256()))


SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("url", "host", "port", "label"),
    [
        ("https://fleet.example", "fleet.example", 443, ""),
        ("https://fleet.example:8443/prod", "fleet.example", 8443, "prod"),
        ("https://fleet.example:8443/.well-known/est/prod.weak/", "fleet.example", 8443, "prod.weak"),
        ("https://[::1]:8443/.well-known/est", "::1", 8443, ""),
    ],
)
def test_a_url_names_a_server_and_a_label(url: str, host: str, port: int, label: str) -> None:
    server = EstServer.parse(url)
    assert (server.host, server.port, server.label) == (host, port, label)
    assert server.path("cacerts") == f"/.well-known/est/{label}/cacerts".replace("//", "/")
    assert EstServer.parse(str(server)) == server


@pytest.mark.parametrize(
    "url",
    [
        "http://fleet.example/prod",
        "https://",
        "https://fleet.example:0x/prod",
        "https://fleet.example:99999/prod",
        "https://d1:code@fleet.example/prod",
        "https://fleet.example/a/b",
        "https://fleet.example/prod?x=1",
        "https://fleet.example/pr od",
        "https://fleet\r\nX: y/prod",
        "",
    ],
)
def test_what_is_no_url_of_est_is_refused(url: str) -> None:
    with pytest.raises(MalformedMessageError):
        EstServer.parse(url)


@given(st.text(max_size=60))
def test_a_url_is_read_or_malformed(url: str) -> None:
    with contextlib.suppress(MalformedMessageError):
        server = EstServer.parse(url)
        assert "\r" not in server.path("cacerts") + server.host


@pytest.mark.parametrize(
    ("text", "date", "seconds"),
    [
        ("30", "", 30),
        ("0", "", 1),
        ("9" * 300, "", 3600),
        ("Thu, 26 Nov 2026 08:01:30 GMT", "Thu, 26 Nov 2026 08:00:00 GMT", 90),
        ("Thu, 26 Nov 2029 08:01:30 GMT", "Thu, 26 Nov 2026 08:00:00 GMT", 3600),
        ("Thu, 26 Nov 2020 08:01:30 GMT", "Thu, 26 Nov 2026 08:00:00 GMT", 1),
        ("Thu, 26 Nov 2026 08:01:30 GMT", "", DEFAULT_RETRY_SECONDS),
        ("soon", "", DEFAULT_RETRY_SECONDS),
        ("", "", DEFAULT_RETRY_SECONDS),
    ],
)
def test_a_wish_to_wait_is_kept_within_bounds(text: str, date: str, seconds: int) -> None:
    assert retry_seconds(text, date=date) == seconds


@given(st.text(), st.text())
def test_any_wish_to_wait_is_one_of_seconds_to_an_hour(text: str, date: str) -> None:
    assert 1 <= retry_seconds(text, date=date) <= 3600


def test_base64_may_be_broken_into_lines_and_hold_nothing_else() -> None:
    assert decoded(b" QU\r\nJD\n") == b"ABC"
    for body in (b"QUJD*", b"QUI", b"A" * (MAX_BODY_BYTES + 1)):
        with pytest.raises(MalformedMessageError):
            decoded(body)


def test_certificates_may_come_in_an_order_that_is_not_that_of_der() -> None:
    first, second = sorted((der(LEAF.certificate), der(ISSUING.certificate)))
    made = serialize_certificates([LEAF.certificate, ISSUING.certificate], Encoding.DER)
    for one, other in ((first, second), (second, first)):
        content = made.replace(first + second, one + other).replace(second + first, one + other)
        assert one + other in content
        assert set(certificates_in(base64.b64encode(content))) == {first, second}


@given(st.binary(max_size=300))
def test_an_answer_is_certificates_or_malformed(content: bytes) -> None:
    for body in (content, base64.b64encode(content)):
        with contextlib.suppress(MalformedMessageError):
            certificates_in(body)


@given(at=st.integers(0, 5000), octet=st.integers(1, 255))
def test_a_damaged_answer_is_certificates_or_malformed(at: int, octet: int) -> None:
    content = bytearray(serialize_certificates([LEAF.certificate, ISSUING.certificate], Encoding.DER))
    content[at % len(content)] ^= octet
    with contextlib.suppress(MalformedMessageError):
        certificates_in(base64.b64encode(bytes(content)))


def test_csr_attributes_ask_for_a_link_by_the_challenge_password() -> None:
    assert wants_link(b"MAsGCSqGSIb3DQEJBw==")
    assert not wants_link(b"MAA=")
    assert not wants_link(b"<html>")


def test_the_way_up_is_found_in_whatever_order_the_cas_come() -> None:
    stranger = Authority.root("Stranger").certificate
    known = [der(one) for one in (stranger, ROOT.certificate, ISSUING.certificate)]
    for issued in ([der(LEAF.certificate)], [der(ISSUING.certificate), der(LEAF.certificate)]):
        chain = chain_of(issued, known, key=key_of(LEAF))
        assert (chain.leaf, chain.above, chain.roots) == (
            der(LEAF.certificate),
            (der(ISSUING.certificate),),
            (der(ROOT.certificate),),
        )


def test_a_root_that_another_root_vouches_for_comes_with_its_link() -> None:
    old, new = Authority.root("Old"), Authority.root("New")
    begins, ends = lifetime(new.certificate)
    link = (
        x509.CertificateBuilder()
        .subject_name(new.certificate.subject)
        .issuer_name(old.certificate.subject)
        .public_key(new.key.public_key())
        .serial_number(7)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(old.key, hashes.SHA256())
    )
    leaf = new.leaf("d1")
    known = [der(one) for one in (old.certificate, new.certificate, link)]
    chain = chain_of([der(leaf.certificate)], known, key=key_of(leaf))
    assert der(new.certificate) in chain.roots
    assert chain.links == (der(link),)


def test_an_answer_for_another_key_or_with_no_root_is_malformed() -> None:
    with pytest.raises(MalformedMessageError, match="key that waits"):
        chain_of([der(LEAF.certificate)], [der(ROOT.certificate)], key=SPKI)
    with pytest.raises(MalformedMessageError, match="no root"):
        chain_of([der(LEAF.certificate)], [der(ISSUING.certificate)], key=key_of(LEAF))


@given(link=st.binary(max_size=48))
def test_a_request_repeats_names_and_holds_the_link(link: bytes) -> None:
    subject, alternatives = names_of(LEAF.certificate)
    made = x509.load_der_x509_csr(request(subject, alternatives, public_key_der=SPKI, sign=sign, link=link))
    assert made.is_signature_valid
    assert made.subject == LEAF.certificate.subject
    held = LEAF.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == held.value
    linked = [one.value for one in made.attributes if one.oid.dotted_string == "1.2.840.113549.1.9.7"]
    assert linked == ([base64.b64encode(link)] if link else [])


def test_a_first_request_names_the_device_alone() -> None:
    made = x509.load_der_x509_csr(request(subject_der("d1"), b"", public_key_der=SPKI, sign=sign))
    (name,) = made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert (name.value, list(made.extensions)) == ("d1", [])


def test_what_a_fleet_says_beside_a_certificate_is_read_strictly() -> None:
    text = (
        '{"broker":{"host":"h","port":8883,"name":"prod:d1","topics":{"publish":[],"subscribe":[]}},'
        '"renew_after":"2026-12-01T00:00:00Z","recovery":{"host":"h","port":8443}}'
    )
    place = Place.parse(text)
    assert (place.broker.port, place.recovery and place.recovery.port) == (8883, 8443)
    assert place.renew_after == datetime(2026, 12, 1, tzinfo=UTC)
    for junk in ("", "{}", "[]", text.replace("8883", "0"), text.replace("prod:d1", "")):
        with pytest.raises(MalformedMessageError):
            Place.parse(junk)
