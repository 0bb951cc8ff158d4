"""A renewal is for the names of the certificate that is renewed: no more, no less, no other."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.problems import ProblemCode
from fleet.core.same_names import require_same_names
from fleet.errors import RefusedError

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime(2030, 1, 1, tzinfo=UTC)
CN = x509.NameAttribute(NameOID.COMMON_NAME, "d1")
O = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "acme")  # noqa: E741 - as the attribute is written
D1 = x509.DNSName("d1.prod.acme")


def alternative(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def csr(*subject: x509.NameAttribute, san: x509.SubjectAlternativeName | None = None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if san is not None:
        builder = builder.add_extension(san, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def certificate(*subject: x509.NameAttribute, san: x509.SubjectAlternativeName) -> bytes:
    name = x509.Name(subject)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=KEY.public_key(),
        serial_number=1,
        not_valid_before=NOW,
        not_valid_after=NOW + timedelta(days=1),
    )
    signed = builder.add_extension(san, critical=False).sign(KEY, hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


HELD = certificate(CN, san=alternative(D1))


def test_the_same_names_pass_however_their_strings_are_encoded() -> None:
    printable = x509.NameAttribute(NameOID.COMMON_NAME, "d1", _ASN1Type.PrintableString)
    require_same_names(csr(CN, san=alternative(D1)), certificate=HELD)
    require_same_names(csr(printable, san=alternative(D1)), certificate=HELD)


def test_alternative_names_have_no_order() -> None:
    other = x509.UniformResourceIdentifier("urn:x:1")
    held = certificate(CN, san=alternative(D1, other))
    require_same_names(csr(CN, san=alternative(other, D1)), certificate=held)


@pytest.mark.parametrize(
    "asked",
    [
        csr(san=alternative(D1)),
        csr(CN),
        csr(CN, CN, san=alternative(D1)),
        csr(O, CN, san=alternative(D1)),
        csr(x509.NameAttribute(NameOID.COMMON_NAME, "D1"), san=alternative(D1)),
        csr(x509.NameAttribute(NameOID.COMMON_NAME, "d2"), san=alternative(D1)),
        csr(CN, san=alternative(D1, x509.DNSName("d2.prod.acme"))),
        csr(CN, san=alternative(x509.DNSName("d1.lab.acme"))),
        csr(CN, san=alternative(x509.UniformResourceIdentifier("d1.prod.acme"))),
    ],
)
def test_other_names_are_refused(asked: str) -> None:
    with pytest.raises(RefusedError) as caught:
        require_same_names(asked, certificate=HELD)
    assert caught.value.code is ProblemCode.BAD_IDENTITY


def test_the_order_of_a_subject_counts() -> None:
    held = certificate(O, CN, san=alternative(D1))
    with pytest.raises(RefusedError):
        require_same_names(csr(CN, O, san=alternative(D1)), certificate=held)


@given(st.text(max_size=200), st.binary(max_size=200))
def test_whatever_cannot_be_read_is_refused(pem: str, der: bytes) -> None:
    with pytest.raises(RefusedError):
        require_same_names(pem, certificate=der)
