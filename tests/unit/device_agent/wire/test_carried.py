"""The server's answers, as a gateway carries them to a device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.carried import (
    CarriedAnswer,
    ConfirmedAnswer,
    DeadAnswer,
    StatusAnswer,
    encode_answer,
    parse_answer,
)
from device_agent.wire.factory import MAX_ANSWER_BYTES
from device_agent.wire.problems import MalformedMessageError

SERIALS = st.binary(min_size=16, max_size=16)
ANSWERS = st.one_of(
    st.builds(ConfirmedAnswer, serial=SERIALS),
    st.builds(
        DeadAnswer, key_hash=st.binary(min_size=32, max_size=32), attempt_floor=st.integers(0, 2**31 - 1)
    ),
    st.builds(StatusAnswer, serial=SERIALS, is_over=st.booleans(), renew_after=st.integers(0, 253402300799)),
)


@given(ANSWERS)
def test_an_answer_is_read_as_it_was_written_and_fits_into_hear(answer: CarriedAnswer) -> None:
    octets = encode_answer(answer)
    assert len(octets) <= MAX_ANSWER_BYTES
    assert parse_answer(octets) == answer


@given(st.binary(max_size=80))
def test_whatever_else_comes_is_refused(octets: bytes) -> None:
    try:
        assert encode_answer(parse_answer(octets))
    except MalformedMessageError:
        return


@pytest.mark.parametrize("answer", ["a161 6b00", "a1616b04", "a2616b0162736e40", "80", "a1616b03"])
def test_an_answer_that_lacks_something_is_refused(answer: str) -> None:
    with pytest.raises(MalformedMessageError):
        parse_answer(bytes.fromhex(answer))
