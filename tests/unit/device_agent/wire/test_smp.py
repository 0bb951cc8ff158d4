"""SMP headers and members, as MCUmgr has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smp.header import Header as StockHeader

from device_agent.wire import smp
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.smp import Header, Members, Op, Version

headers = st.builds(
    Header,
    op=st.sampled_from(Op),
    group=st.integers(64, 0xFFFF),
    sequence=st.integers(0, 255),
    command=st.integers(0, 255),
    version=st.sampled_from(Version),
)


@given(headers)
def test_a_header_comes_back(header: Header) -> None:
    assert smp.parse(smp.encode(header, {})).header == header


@given(headers)
def test_a_stock_client_reads_our_header(header: Header) -> None:
    stock = StockHeader.loads(smp.encode(header, {"a": 1})[:8])
    assert (stock.op, stock.version, stock.group_id) == (header.op, header.version, header.group)
    assert (stock.sequence, stock.command_id, stock.length) == (header.sequence, header.command, 4)


@given(st.binary(max_size=80))
def test_no_bytes_make_the_parser_fail_otherwise_than_it_says(octets: bytes) -> None:
    try:
        smp.parse(octets)
    except MalformedMessageError:
        return


@pytest.mark.parametrize(
    "message",
    [
        b"\x08\x00\x00\x01\x00\x47\x01",
        b"\x08\x00\x00\x02\x00\x47\x01\x00\xa0",
        b"\x08\x00\x00\x00\x00\x47\x01\x00\xa0",
        b"\x0f\x00\x00\x01\x00\x47\x01\x00\xa0",
        b"\x18\x00\x00\x01\x00\x47\x01\x00\xa0",
        b"\x08\x00\x00\x01\x00\x47\x01\x00\x80",
    ],
    ids=["short", "length too long", "length too short", "unknown op", "unknown version", "no map"],
)
def test_it_refuses(message: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        smp.parse(message)


@pytest.mark.parametrize("value", [None, 1, "abc", b"", b"12345", True, []])
def test_octets_are_byte_strings_within_their_bounds(value: smp.cbor.Item) -> None:
    with pytest.raises(MalformedMessageError, match=r"^n must"):
        Members({"n": value}).octets("n", lowest=1, highest=4)


@pytest.mark.parametrize("value", [None, -1, 11, True, b"1", "1", 2**70])
def test_integers_stay_in_their_range(value: smp.cbor.Item) -> None:
    with pytest.raises(MalformedMessageError, match=r"^q must"):
        Members({"q": value}).integer("q", highest=10)


@pytest.mark.parametrize("value", [None, "a\nb", "x" * 65, b"a", "a\u202eb"])
def test_text_is_printable_and_short(value: smp.cbor.Item) -> None:
    with pytest.raises(MalformedMessageError, match=r"^md must"):
        Members({"md": value}).text("md", longest=64)


@pytest.mark.parametrize("value", ["yes", 2, -1, b"\x01"])
def test_a_flag_is_0_or_1(value: smp.cbor.Item) -> None:
    with pytest.raises(MalformedMessageError):
        Members({"tofu": value}).flag("tofu")


@pytest.mark.parametrize("value", [None, [], [b""], ["a"], [b"a"] * 5, b"a", [[b"a"]]])
def test_an_array_holds_byte_strings_only(value: smp.cbor.Item) -> None:
    with pytest.raises(MalformedMessageError):
        Members({"sc": value}).all_octets("sc", most=4, longest=10)
