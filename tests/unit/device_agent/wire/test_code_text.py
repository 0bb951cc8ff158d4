"""Codes as they are typed and scanned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.code_text import WrittenCode
from device_agent.wire.identity import Identity
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret

CODE = "K7QD-22XC-9F3M-ZP4A"
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,63}", fullmatch=True)
DOMAINS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(domain=DOMAINS, device_id=IDS)
def test_a_scanned_code_reads_back_as_it_was_printed(domain: str, device_id: str) -> None:
    identity = Identity(domain=domain, device_id=device_id)
    read = WrittenCode.parse(WrittenCode(code=Secret(CODE), identity=identity).text())
    assert (read.code.reveal(), read.identity) == (CODE, identity)


@pytest.mark.parametrize("text", [CODE, f"  {CODE}\n", "k7qd 22xc 9f3m zp4a"])
def test_a_typed_code_is_taken_as_it_is_and_says_not_whose_it_is(text: str) -> None:
    read = WrittenCode.parse(text)
    assert (read.code.reveal(), read.identity) == (text.strip(), None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "x" * 257,
        "a\x00b",
        "two\nlines",
        "c\u00f6de",
        "fleet-code:",
        f"fleet-code:{CODE}",
        f"fleet-code:{CODE}:prod",
        f"fleet-code:{CODE}:PROD!:d1",
        f"fleet-code:{CODE}:prod:",
        "fleet-code::prod:d1",
    ],
)
def test_what_is_no_code_is_malformed_and_not_repeated(text: str) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        WrittenCode.parse(text)
    assert CODE not in str(caught.value)


@given(st.text(max_size=300))
def test_any_text_is_a_code_or_malformed(text: str) -> None:
    try:
        read = WrittenCode.parse(text)
    except MalformedMessageError:
        return
    assert WrittenCode.parse(read.text()) == read
