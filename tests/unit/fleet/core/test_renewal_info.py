"""The name of a certificate in a URL, as RFC 9773 has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import serial_hex
from device_agent.wire.problems import MalformedMessageError
from fleet.core.renewal_info import CertificateName


def test_the_example_of_the_rfc_is_read_and_written() -> None:
    # RFC 9773 4.1.
    text = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
    name = CertificateName.parse(text)
    assert name.issuer == "69885b6b87464041e1b37b847ba0ae2cde01c8d4"
    assert name.serial == serial_hex(0x87654321)
    assert str(name) == text


@given(st.binary(min_size=1, max_size=32), st.integers(min_value=1, max_value=2**127 - 1))
def test_every_name_is_read_as_it_was_written(issuer: bytes, number: int) -> None:
    name = CertificateName(issuer=issuer.hex(), serial=serial_hex(number))
    assert CertificateName.parse(str(name)) == name


@given(st.text(max_size=80))
def test_what_is_read_is_written_one_way_and_all_else_is_refused(text: str) -> None:
    try:
        name = CertificateName.parse(text)
    except MalformedMessageError:
        return
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.b.c", "AA==.AQ", "AA.", "AA.AAE", "AA.gA", "AA.AQ ", f"AA.{'A' * 65}", "ä.AQ", "AB.AQ"],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessageError):
        CertificateName.parse(text)
