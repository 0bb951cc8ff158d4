"""The CBOR of the factory link: what a general decoder reads, less what nobody should send."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire import cbor
from device_agent.wire.problems import MalformedMessageError

scalars = (
    st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=80)
    | st.text(max_size=40)
    | st.booleans()
    | st.none()
)
values = scalars | st.lists(scalars, max_size=6) | st.dictionaries(st.text(max_size=8), scalars, max_size=6)


@given(values)
def test_a_value_comes_back(value: cbor.Item) -> None:
    assert cbor.decode(cbor.encode(value)) == value


@given(values)
def test_it_reads_what_a_general_encoder_writes(value: cbor.Item) -> None:
    assert cbor.decode(cbor2.dumps(value)) == value


@given(values)
def test_it_writes_what_a_general_encoder_writes(value: cbor.Item) -> None:
    assert cbor.encode(value) == cbor2.dumps(value, canonical=True)


@pytest.mark.parametrize("number", [2**64, -(2**64) - 1])
def test_a_number_that_the_link_has_no_room_for_is_not_written(number: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        cbor.encode(number)


@given(st.binary(max_size=200))
def test_what_it_reads_a_general_decoder_reads_alike(octets: bytes) -> None:
    try:
        value = cbor.decode(octets)
    except MalformedMessageError:
        return
    assert cbor2.loads(octets) == value


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "nothing"),
        (b"\x01\x01", "two values"),
        (b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "a byte string longer than memory"),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "an array longer than memory"),
        (b"\x81" * 100_000, "nested without end"),
        (b"\xa1" + b"\x61a\xa1" * 50_000, "maps nested without end"),
        (b"\x9f" * 100_000, "open arrays without end"),
        (b"\xd8\x23\x63(((", "a regular expression"),
        (b"\xd8\x1c\x81\xd8\x1d\x00", "a cycle"),
        (b"\xc2\x41\xff", "a big number"),
        (b"\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00", "a float"),
        (b"\xf7", "undefined"),
        (b"\xff", "a break"),
        (b"\x5f\x41a\xff", "a byte string in pieces"),
        (b"\x61\xff", "text that is not UTF-8"),
        (b"\xa2\x61a\x01\x61a\x02", "a key twice"),
        (b"\xa1\x01\x02", "a key that is no text"),
        (b"\x98\x41" + b"\x00" * 65, "more entries than a message has"),
        (b"\x1c", "a reserved length"),
    ],
)
def test_it_refuses(octets: bytes, why: str) -> None:
    with pytest.raises(MalformedMessageError):
        cbor.decode(octets)


def test_maps_of_indefinite_length_are_taken() -> None:
    assert cbor.decode(b"\xbf\x61a\x01\x61b\x9f\x02\xff\xff") == {"a": 1, "b": [2]}
