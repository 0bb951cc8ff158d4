"""OCSP: a question that can be read gets a signed answer, everything else a proper refusal."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp as x509_ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID
from hypothesis import given
from hypothesis import strategies as st

from fleet.ca import der, ocsp
from fleet.ca.hierarchy import Authority
from fleet.ca.ocsp import Good, Responder, Revoked, Standing, Unknown, Validity
from fleet.ca.ocsp_request import MAX_QUESTIONS, read_request, request_of_path
from fleet.ca.signature_algorithm import signature_algorithm
from fleet.ca.signers import KeySigner, is_signed, make_authority_key
from fleet.core.goodkey import KeyType
from fleet.errors import BadInputError
from fleet.model import Purpose, RevocationReason
from tests.homes import FleetHome

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SOON = NOW + timedelta(hours=1)
SERIAL = 0x41 << 120 | 5
HASHES = [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]


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


def answers(authority: Authority, body: bytes, *standings: Standing) -> bytes:
    request = read_request(body)
    responder = authority.asked(request.questions[0])
    assert isinstance(responder, Responder)
    return responder.answer(request, standings, validity=Validity(this_update=NOW, next_update=SOON))


def answered(authority: Authority, body: bytes, standing: Standing) -> x509_ocsp.OCSPResponse:
    return x509_ocsp.load_der_ocsp_response(answers(authority, body, standing))


@pytest.mark.parametrize("algorithm", HASHES, ids=lambda algorithm: algorithm.name)
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
    assert (answer.produced_at_utc, answer.this_update_utc, answer.next_update_utc) == (NOW, NOW, SOON)


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
    assert answer.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert answer.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(key).digest


@pytest.mark.parametrize("key_type", KeyType)
def test_a_delegate_of_every_key_type_signs_as_it_says(authority: Authority, key_type: KeyType) -> None:
    asked = read_request(request(authority))
    delegate = authority.asked(asked.questions[0])
    assert delegate is not None
    key = make_authority_key(key_type)
    encoded = replace(delegate, signer=KeySigner(key)).answer(
        asked, [Good()], validity=Validity(this_update=NOW, next_update=SOON)
    )
    answer = x509_ocsp.load_der_ocsp_response(encoded)
    assert is_signed(key.public_key(), answer.signature, answer.tbs_response_bytes)
    told = signature_algorithm(key.public_key())
    assert der.object_identifier(answer.signature_algorithm_oid.dotted_string) in told


def test_of_one_that_has_ended_it_is_said_since_when_we_would_know_better(authority: Authority) -> None:
    answer = answered(authority, request(authority), Good(archive_cutoff=NOW - timedelta(days=400)))
    (extension,) = answer.single_extensions
    assert answer.certificate_status is x509_ocsp.OCSPCertStatus.GOOD
    assert extension.oid.dotted_string == "1.3.6.1.5.5.7.48.1.6"  # RFC 6960 4.4.4, archive cutoff
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    assert extension.value.value == der.generalized_time(NOW - timedelta(days=400))


def test_without_a_nonce_the_answer_has_no_extension_that_a_light_client_would_have_to_skip(
    authority: Authority,
) -> None:
    answer = answered(authority, request(authority), Good())
    assert (len(answer.extensions), len(answer.single_extensions)) == (0, 0)


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
    (question,) = read_request(builder.build().public_bytes(Encoding.DER)).questions
    assert authority.asked(question) is None


def test_each_issuing_ca_answers_for_itself(authority: Authority) -> None:
    responder = authority.asked(read_request(request(authority)).questions[0])
    assert responder is not None
    assert responder.issuer == authority.issuer(Purpose.DEVICE, "prod").certificate


def test_a_serial_that_is_longer_than_ours_is_no_serial_of_ours(authority: Authority) -> None:
    (question,) = read_request(request(authority, serial=1 << 150)).questions
    assert len(question.serial) > 32


def wrapped(*questions: bytes, more: bytes = b"") -> bytes:
    """Return a request of single requests that are encoded already."""
    return der.sequence(der.sequence(der.sequence(*questions), more))


def single(body: bytes) -> bytes:
    """Return the one single request of a request."""
    ((listed, *_), *_) = [der.elements(one) for one in der.elements(body)]
    return der.content(listed)


def with_serial(question: bytes, encoded: bytes) -> bytes:
    *others, _ = der.elements(der.elements(question)[0])
    return der.sequence(der.sequence(*others, encoded))


@pytest.mark.parametrize("encoded", [der.tlv(der.INTEGER, b"\xff"), der.integer(0)], ids=["negative", "zero"])
def test_a_serial_that_no_certificate_can_have_is_nobodys(authority: Authority, encoded: bytes) -> None:
    (question,) = read_request(wrapped(with_serial(single(request(authority)), encoded))).questions
    assert question.serial == ""


def test_another_hash_is_malformed(authority: Authority) -> None:
    builder = x509_ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        b"x" * 28, b"y" * 28, SERIAL, hashes.SHA224()
    )
    with pytest.raises(BadInputError, match="SHA-1, SHA-256"):
        read_request(builder.build().public_bytes(Encoding.DER))


def test_several_certificates_are_answered_under_one_signature_in_their_order(authority: Authority) -> None:
    body = wrapped(*(single(request(authority, serial=SERIAL + number)) for number in range(3)))
    standings = (Good(), Revoked(at=NOW, reason=RevocationReason.KEY_COMPROMISE), Unknown())
    encoded = answers(authority, body, *standings)
    told = [
        (one.serial_number, one.certificate_status.name)
        for one in x509_ocsp.load_der_ocsp_response(encoded).responses
    ]
    assert told == [(SERIAL, "GOOD"), (SERIAL + 1, "REVOKED"), (SERIAL + 2, "UNKNOWN")]


def test_a_question_about_too_many_certificates_is_malformed(authority: Authority) -> None:
    question = single(request(authority))
    assert len(read_request(wrapped(*[question] * MAX_QUESTIONS)).questions) == MAX_QUESTIONS
    with pytest.raises(BadInputError, match="more than"):
        read_request(wrapped(*[question] * (MAX_QUESTIONS + 1)))


def test_a_signature_on_a_request_and_the_name_of_who_asks_change_nothing(authority: Authority) -> None:
    listed = der.sequence(single(request(authority)))
    name = der.explicit(1, der.explicit(4, der.sequence()))
    signature = der.explicit(0, der.sequence(der.sequence(), der.tlv(der.BIT_STRING, b"\x00")))
    body = der.sequence(der.sequence(der.explicit(0, der.integer(0)), name, listed), signature)
    assert read_request(body) == read_request(request(authority))


def extension(*parts: bytes) -> bytes:
    return der.sequence(der.object_identifier("1.2.3"), *parts, der.tlv(der.OCTET_STRING, b""))


def malformed_requests(good: bytes) -> dict[str, bytes]:
    """Requests that are broken in one place each."""
    question = single(good)
    (cert_id,) = der.elements(question)
    algorithm, name, key, serial = der.elements(cert_id)
    odd = der.sequence(der.object_identifier("1.3.14.3.2.26"), der.integer(1))
    critical = extension(der.tlv(der.BOOLEAN, b"\xff"))
    return {
        "nothing asked": wrapped(),
        "something after it": good + b"\x00",
        "version 2": der.sequence(der.sequence(der.explicit(0, der.integer(1)), der.sequence(question))),
        "a hash with parameters": wrapped(der.sequence(der.sequence(odd, name, key, serial))),
        "a certificate id too short": wrapped(der.sequence(der.sequence(algorithm, name, key))),
        "a certificate id too long": wrapped(der.sequence(der.sequence(*der.elements(cert_id), serial))),
        "a padded serial": wrapped(with_serial(question, der.tlv(der.INTEGER, b"\x00\x01"))),
        "an empty serial": wrapped(with_serial(question, der.tlv(der.INTEGER, b""))),
        "an indefinite length": b"\x30\x80" + der.content(good) + b"\x00\x00",
        "a length in a longer form": b"\x30\x81" + good[1:],
        "a length beyond the end": good[:1] + bytes((good[1] + 1,)) + good[2:],
        "extensions without one": wrapped(question, more=der.explicit(2, der.sequence())),
        "an extension twice": wrapped(question, more=der.explicit(2, der.sequence(extension(), extension()))),
        "critical by half": wrapped(
            question, more=der.explicit(2, der.sequence(extension(der.tlv(der.BOOLEAN, b"\x01"))))
        ),
        "critical of one certificate": wrapped(
            der.sequence(*der.elements(question), der.explicit(0, der.sequence(critical)))
        ),
    }


ANY = der.sequence(der.sequence(), der.integer(1), der.integer(1), der.integer(1))


@pytest.mark.parametrize("fault", malformed_requests(wrapped(der.sequence(ANY))))
def test_a_request_that_is_broken_in_one_place_is_malformed(authority: Authority, fault: str) -> None:
    with pytest.raises(BadInputError):
        read_request(malformed_requests(request(authority))[fault])


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


@pytest.mark.parametrize("body", [b"", b"\x30", b"\x30\x85\x01", b"hello", b"\x00" * 5000])
def test_what_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(BadInputError):
        read_request(body)


@given(st.data())
def test_a_damaged_request_is_read_as_another_reader_does_or_not_at_all(
    fleet_home: FleetHome, data: st.DataObject
) -> None:
    body = bytearray(request(fleet_home.authority, nonce=b"n" * 16))
    for _ in range(data.draw(st.integers(min_value=1, max_value=3))):
        position = data.draw(st.integers(min_value=0, max_value=len(body) - 1))
        body[position] ^= 1 << data.draw(st.integers(min_value=0, max_value=7))
    try:
        found = read_request(bytes(body))
    except BadInputError:
        return
    (question,) = found.questions
    other = x509_ocsp.load_der_ocsp_request(bytes(body))
    assert (question.serial_number, question.algorithm) == (other.serial_number, other.hash_algorithm.name)
    assert (question.issuer_name_hash, question.issuer_key_hash) == (
        other.issuer_name_hash,
        other.issuer_key_hash,
    )
    nonces = [one.value.nonce for one in other.extensions if isinstance(one.value, x509.OCSPNonce)]
    assert nonces == ([] if found.nonce is None else [found.nonce])


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
        for encoded in (ocsp.MALFORMED, ocsp.UNAUTHORIZED, ocsp.TRY_LATER)
    ]
    assert statuses == ["MALFORMED_REQUEST", "UNAUTHORIZED", "TRY_LATER"]
