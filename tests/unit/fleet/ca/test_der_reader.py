"""DER from outside: read as another reader does, or refused; never beyond its end."""

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from fleet.ca import der
from fleet.ca.der_reader import DerReader, NotDerError

numbers = st.integers(min_value=0, max_value=2**160)


@given(numbers)
def test_an_integer_is_read_back(number: int) -> None:
    reader = DerReader(der.integer(number))
    assert reader.integer() == number
    reader.end()


@pytest.mark.parametrize(
    ("encoded", "number"), [("0201ff", -1), ("020180", -128), ("02020080", 128), ("0202ff7f", -129)]
)
def test_an_integer_below_zero_is_one_too(encoded: str, number: int) -> None:
    assert DerReader(bytes.fromhex(encoded)).integer() == number


@pytest.mark.parametrize("encoded", ["0200", "02020001", "0202ffff", "0203000080", "0401ff"])
def test_an_integer_in_another_form_is_none(encoded: str) -> None:
    with pytest.raises(NotDerError):
        DerReader(bytes.fromhex(encoded)).integer()


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_elements_come_out_in_their_order_and_nothing_is_left(contents: list[bytes]) -> None:
    reader = DerReader(der.sequence(*(der.tlv(der.OCTET_STRING, one) for one in contents)))
    inside = reader.inside(der.SEQUENCE)
    assert [inside.content(der.OCTET_STRING) for _ in contents] == contents
    assert inside.is_at_end
    inside.end()
    reader.end()


@given(st.binary(max_size=70), st.sampled_from([der.SEQUENCE, der.OCTET_STRING, der.INTEGER]))
def test_whatever_comes_nothing_is_read_beyond_its_end(junk: bytes, tag: int) -> None:
    reader = DerReader(junk)
    try:
        whole = reader.whole(tag)
    except NotDerError:
        return
    assert whole == junk[: len(whole)]
    assert der.tlv(tag, DerReader(whole).content(tag)) == whole, "one encoding, and no other"


@pytest.mark.parametrize(
    "encoded",
    ["", "30", "3080", "308000", "30850000000001", "3081", "308105", "30820005", "3005", "1f0100", "3f0100"],
)
def test_a_length_or_a_tag_in_another_form_is_refused(encoded: str) -> None:
    data = bytes.fromhex(encoded)
    with pytest.raises(NotDerError):
        DerReader(data).content(data[0] if data else der.SEQUENCE)


def test_what_follows_is_refused() -> None:
    with pytest.raises(NotDerError, match="follows"):
        DerReader(der.integer(1)).end()


@given(
    st.integers(0, 2),
    st.integers(0, 39),
    st.lists(st.integers(min_value=0, max_value=2**40), min_size=1, max_size=6),
)
def test_an_object_identifier_is_written_as_another_encoder_does(
    first: int, second: int, others: list[int]
) -> None:
    dotted = ".".join(map(str, (first, second, *others)))
    point = x509.PolicyInformation(x509.ObjectIdentifier(dotted), None)
    assert der.object_identifier(dotted) in x509.CertificatePolicies([point]).public_bytes()
