"""OCSP: a question that can be read gets a signed answer, everything else a proper refusal."""

import base64
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp as x509_ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from fleet.ca import ocsp
from fleet.ca.hierarchy import Authority
from fleet.ca.ocsp import Good, Responder, Revoked, Standing, Unknown, read_request, request_of_path
from fleet.errors import BadInputError
from fleet.model import Purpose, RevocationReason
from tests.homes import FleetHome

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SOON = NOW + timedelta(hours=1)
SERIAL = 0x41 << 120 | 5


@pytest.fixture
def authority(fleet_home: FleetHome) -> Authority:
    return fleet_home.authority


def request(
    authority: Authority,
    *,
    algorithm: hashes.HashAlgorithm | None = None,
    nonce: bytes | None = None,
    serial: int = SERIAL,
) -> bytes:
    issuer = authority.issuer(Purpose.DEVICE, "prod").certificate
    chosen = algorithm or hashes.SHA1()
    issuer_name = hashes.Hash(chosen)
    issuer_name.update(issuer.subject.public_bytes())
    key = hashes.Hash(chosen)
    public = issuer.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    key.update(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    builder = x509_ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        issuer_name.finalize(), key.finalize(), serial, chosen
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def answered(authority: Authority, body: bytes, standing: Standing) -> x509_ocsp.OCSPResponse:
    question = read_request(body)
    responder = authority.asked(question)
    assert isinstance(responder, Responder)
    encoded = responder.answer(question, standing, this_update=NOW, next_update=SOON)
    return x509_ocsp.load_der_ocsp_response(encoded)


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()], ids=["sha1", "sha256"])
@pytest.mark.parametrize(
    ("standing", "status"),
    [
        (Good(), x509_ocsp.OCSPCertStatus.GOOD),
        (Unknown(), x509_ocsp.OCSPCertStatus.UNKNOWN),
        (Revoked(at=NOW, reason=RevocationReason.SUPERSEDED), x509_ocsp.OCSPCertStatus.REVOKED),
    ],
)
def test_a_standing_is_answered_for_the_certificate_that_was_asked_about(
    authority: Authority,
    algorithm: hashes.HashAlgorithm,
    standing: Standing,
    status: x509_ocsp.OCSPCertStatus,
) -> None:
    answer = answered(authority, request(authority, algorithm=algorithm), standing)
    assert answer.certificate_status is status
    assert (answer.serial_number, answer.hash_algorithm.name) == (SERIAL, algorithm.name)
    assert (answer.this_update_utc, answer.next_update_utc) == (NOW, SOON)


@pytest.mark.parametrize("reason", RevocationReason)
def test_a_revocation_is_told_with_its_time_and_reason(
    authority: Authority, reason: RevocationReason
) -> None:
    answer = answered(authority, request(authority), Revoked(at=NOW, reason=reason))
    expected = None if reason is RevocationReason.UNSPECIFIED else x509.ReasonFlags(reason.value)
    assert (answer.revocation_time_utc, answer.revocation_reason) == (NOW, expected)


def test_the_answer_is_signed_by_a_delegate_whose_certificate_comes_with_it(authority: Authority) -> None:
    answer = answered(authority, request(authority), Good())
    (delegate,) = answer.certificates
    delegate.verify_directly_issued_by(authority.issuer(Purpose.DEVICE, "prod").certificate)
    usage = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert delegate.extensions.get_extension_for_class(x509.OCSPNoCheck)
    key = delegate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("length", [1, 32, 128])
def test_a_nonce_is_echoed(authority: Authority, length: int) -> None:
    answer = answered(authority, request(authority, nonce=b"n" * length), Good())
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * length


@pytest.mark.parametrize("length", [0, 129])
def test_a_nonce_of_another_length_is_malformed(authority: Authority, length: int) -> None:
    with pytest.raises(BadInputError, match="1 to 128"):
        read_request(request(authority, nonce=b"n" * length))


def test_a_question_about_another_ca_finds_nobody_to_answer(authority: Authority) -> None:
    builder = x509_ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        b"x" * 20, b"y" * 20, SERIAL, hashes.SHA1()
    )
    question = read_request(builder.build().public_bytes(Encoding.DER))
    assert authority.asked(question) is None


def test_each_issuing_ca_answers_for_itself(authority: Authority) -> None:
    responder = authority.asked(read_request(request(authority)))
    assert responder is not None
    assert responder.issuer == authority.issuer(Purpose.DEVICE, "prod").certificate


def test_a_serial_that_is_longer_than_ours_is_no_serial_of_ours(authority: Authority) -> None:
    question = read_request(request(authority, serial=1 << 150))
    assert len(question.serial) > 32


@pytest.mark.parametrize("algorithm", [hashes.SHA384(), hashes.SHA512()], ids=["sha384", "sha512"])
def test_another_hash_is_malformed(authority: Authority, algorithm: hashes.HashAlgorithm) -> None:
    builder = x509_ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        b"x" * algorithm.digest_size, b"y" * algorithm.digest_size, SERIAL, algorithm
    )
    with pytest.raises(BadInputError, match="SHA-1 or SHA-256"):
        read_request(builder.build().public_bytes(Encoding.DER))


def test_a_question_about_two_certificates_is_malformed(authority: Authority) -> None:
    body = request(authority)
    # OCSPRequest / TBSRequest / requestList, each a SEQUENCE of one: the innermost is put in twice.
    single = body[6:]
    requests = b"\x30\x81" + bytes((2 * len(single),)) + single + single
    tbs = b"\x30\x81" + bytes((len(requests),)) + requests
    doubled = b"\x30\x81" + bytes((len(tbs),)) + tbs
    with pytest.raises(BadInputError, match="exactly one"):
        read_request(doubled)


def test_a_critical_extension_that_is_not_known_is_malformed(authority: Authority) -> None:
    issuer = authority.issuer(Purpose.DEVICE, "prod").certificate
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")
    built = (
        x509_ocsp.OCSPRequestBuilder()
        .add_certificate(issuer, issuer, hashes.SHA1())
        .add_extension(unknown, critical=True)
        .build()
    )
    with pytest.raises(BadInputError, match="critical"):
        read_request(built.public_bytes(Encoding.DER))


@pytest.mark.parametrize("body", [b"", b"\x30", b"hello", b"\x00" * 5000])
def test_what_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(BadInputError):
        read_request(body)


@given(st.data())
def test_a_damaged_request_never_breaks_the_reader(fleet_home: FleetHome, data: st.DataObject) -> None:
    body = bytearray(request(fleet_home.authority, nonce=b"n" * 16))
    for _ in range(data.draw(st.integers(min_value=1, max_value=3))):
        position = data.draw(st.integers(min_value=0, max_value=len(body) - 1))
        body[position] ^= 1 << data.draw(st.integers(min_value=0, max_value=7))
    try:
        question = read_request(bytes(body))
    except BadInputError:
        return
    assert fleet_home.authority.asked(question) is None or len(question.serial) >= 32


@given(st.binary(max_size=200))
def test_random_bytes_never_break_the_reader(body: bytes) -> None:
    with pytest.raises(BadInputError):
        read_request(body)


@pytest.mark.parametrize("encode", [lambda text: quote(text, safe=""), lambda text: text])
def test_a_get_carries_the_same_request_in_its_path(authority: Authority, encode: object) -> None:
    body = request(authority, nonce=b"\xff\xfe\xfd" * 8)
    assert callable(encode)
    assert request_of_path(encode(base64.b64encode(body).decode())) == body


@pytest.mark.parametrize("tail", ["!!!", "AAA", "é", "%zz", "AAAA "])
def test_a_path_that_is_not_base64_is_malformed(tail: str) -> None:
    with pytest.raises(BadInputError):
        request_of_path(tail)


def test_the_unsigned_answers_are_what_they_say() -> None:
    statuses = [
        x509_ocsp.load_der_ocsp_response(encoded).response_status.name
        for encoded in (ocsp.MALFORMED, ocsp.UNAUTHORIZED, ocsp.TRY_LATER, ocsp.INTERNAL_ERROR)
    ]
    assert statuses == ["MALFORMED_REQUEST", "UNAUTHORIZED", "TRY_LATER", "INTERNAL_ERROR"]
