"""EST bodies: a request or one clear refusal, whatever comes; one form goes out."""

import base64
import textwrap
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.channels.est_payload import CSR_TYPE, UnfitBodyError, csr_attributes, csr_pem_of
from fleet.core.csr import read_csr
from fleet.core.goodkey import ALL_KEY_TYPES, KeyType
from tests.est import EstUnit

UNIT = EstUnit(device_id="d1")
DER = base64.b64decode(UNIT.csr)


def der_of(pem: str) -> bytes:
    return base64.b64decode("".join(pem.splitlines()[1:-1]))


@given(st.binary(min_size=1, max_size=300), st.sampled_from(["\n", "\r\n", " ", "\t"]), st.integers(1, 80))
def test_base64_comes_through_however_its_lines_are_broken(octets: bytes, end: str, width: int) -> None:
    body = end.join(textwrap.wrap(base64.b64encode(octets).decode(), width)) + end
    assert der_of(csr_pem_of(CSR_TYPE, body.encode())) == octets


@given(st.binary(max_size=400) | st.text(alphabet="MIIB+/=\n -", max_size=80).map(str.encode))
def test_any_body_is_base64_or_refused(body: bytes) -> None:
    try:
        pem = csr_pem_of(CSR_TYPE, body)
    except UnfitBodyError:
        return
    assert der_of(pem) == base64.b64decode(body.translate(None, b" \t\r\n"))


@pytest.mark.parametrize("content_type", ["application/pkcs10", "Application/PKCS10; charset=us-ascii"])
def test_the_content_type_may_have_parameters(content_type: str) -> None:
    assert read_csr(csr_pem_of(content_type, UNIT.csr)).common_names == ("d1",)


@pytest.mark.parametrize(
    "content_type", ["", "application/x-www-form-urlencoded", "text/plain", "application/pkcs10x", ";"]
)
def test_another_content_type_is_415(content_type: str) -> None:
    with pytest.raises(UnfitBodyError) as caught:
        csr_pem_of(content_type, UNIT.csr)
    assert caught.value.status is HTTPStatus.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n",
        DER,
        b"-----BEGIN CERTIFICATE REQUEST-----\n" + UNIT.csr + b"-----END CERTIFICATE REQUEST-----\n",
        UNIT.csr.replace(b"M", b"!", 1),
        UNIT.csr.replace(b"M", b"\x00M", 1),
        base64.urlsafe_b64encode(b"\xff\xfe\xfd" * 20),
        b"TUlJ=TUlJ",
        b"TUlJQ",
    ],
)
def test_what_is_no_base64_is_400(body: bytes) -> None:
    with pytest.raises(UnfitBodyError) as caught:
        csr_pem_of(CSR_TYPE, body)
    assert caught.value.status is HTTPStatus.BAD_REQUEST


GOLDEN = {
    KeyType.P256: "301506072a8648ce3d0201310a06082a8648ce3d03010706082a8648ce3d040302",
    KeyType.P384: "301206072a8648ce3d0201310706052b8104002206082a8648ce3d040303",
    KeyType.ED25519: "06032b6570",
    KeyType.RSA: "301106092a864886f70d010101310402020800" + "06092a864886f70d01010b",
    KeyType.ML_DSA_44: "0609608648016503040311",
    KeyType.ML_DSA_65: "0609608648016503040312",
}


@pytest.mark.parametrize("key_type", KeyType)
def test_the_wish_names_the_key_type_that_a_profile_allows(key_type: KeyType) -> None:
    answer = csr_attributes(frozenset({key_type}))
    content = bytes.fromhex(GOLDEN[key_type])
    assert base64.b64decode(answer.body) == bytes((0x30, len(content))) + content


def test_the_wish_is_p256_where_every_type_is_allowed() -> None:
    assert csr_attributes(ALL_KEY_TYPES) == csr_attributes(frozenset({KeyType.P256}))
