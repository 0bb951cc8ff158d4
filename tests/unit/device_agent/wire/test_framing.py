"""Frames survive every cut and every neighbour, and nothing else passes for a frame."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from smp import packet
from smpclient.transport.serial import Cobs

from device_agent.wire.framing import (
    MAX_LINE_BYTES,
    MAX_MESSAGE_BYTES,
    Decoder,
    Frame,
    Framing,
    crc16,
    encode,
    encode_burst,
    stuff,
    unstuff,
)


def message_of(body: bytes) -> bytes:
    """Return an SMP message: the decoders look at the length in its header."""
    return b"\x08\x00" + len(body).to_bytes(2, "big") + b"\x00\x47\x01\x00" + body


messages = st.binary(max_size=700).map(message_of)
framings = st.sampled_from(Framing)


def feed_in_pieces(decoder: Decoder, octets: bytes, size: int) -> list[Frame]:
    pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
    return [frame for piece in pieces for frame in decoder.feed(piece)]


def test_crc16_is_xmodem() -> None:
    assert crc16(b"123456789") == 0x31C3


@given(st.binary(max_size=1200))
@example(b"")
@example(b"\x01" * 254)
@example(b"\x01" * 255 + b"\x00")
def test_what_is_stuffed_holds_no_zero_and_comes_back(octets: bytes) -> None:
    assert 0 not in stuff(octets)
    assert unstuff(stuff(octets)) == octets


@pytest.mark.parametrize("octets", [b"\x05\x01", b"\x00", b"\x02\x01\xff"])
def test_block_lengths_that_do_not_fit_are_no_stuffing(octets: bytes) -> None:
    assert unstuff(octets) is None


@given(messages, framings, st.integers(1, 300))
def test_a_frame_is_found_however_it_is_cut(message: bytes, framing: Framing, size: int) -> None:
    frames = feed_in_pieces(Decoder(), encode_burst(message, framing), size)
    assert frames == [Frame(message=message, framing=framing)]


@given(messages)
def test_a_stock_client_reads_our_cobs_frame(message: bytes) -> None:
    client = Cobs()
    client.feed(encode(message, Framing.COBS))
    assert client.take() == message


@given(messages)
def test_we_write_the_very_cobs_frame_of_a_stock_client(message: bytes) -> None:
    assert encode(message, Framing.COBS) == b"".join(Cobs().encode(message))


@given(messages)
def test_a_stock_client_reads_our_lines(message: bytes) -> None:
    reader = packet.decode()
    next(reader)
    *opening, last = encode(message, Framing.LINES).splitlines(keepends=True)
    for line in opening:
        reader.send(line)
    with pytest.raises(StopIteration) as ended:
        reader.send(last)
    assert ended.value.value == message


@given(messages, st.integers(8, 127))
def test_we_read_the_lines_of_a_stock_client(message: bytes, length: int) -> None:
    lines = b"".join(packet.encode(message, line_length=length))
    assert Decoder().feed(lines) == [Frame(message=message, framing=Framing.LINES)]


@given(st.binary(max_size=MAX_MESSAGE_BYTES - 8).map(message_of))
def test_no_line_is_longer_than_a_console_takes(message: bytes) -> None:
    assert max(map(len, encode(message, Framing.LINES).splitlines(keepends=True))) <= MAX_LINE_BYTES


def test_a_message_longer_than_both_sides_take_is_not_framed() -> None:
    with pytest.raises(ValueError, match="4096"):
        encode(bytes(MAX_MESSAGE_BYTES + 1), Framing.COBS)


def test_log_lines_between_the_lines_of_a_message_are_skipped() -> None:
    message = message_of(bytes(range(256)))
    lines = encode(message, Framing.LINES).splitlines(keepends=True)
    talk = b"[00:00:01.000] <inf> sensor: 21 degrees\r\n"
    mixed = b"".join(talk + line for line in lines)
    assert Decoder().feed(mixed) == [Frame(message=message, framing=Framing.LINES)]


def test_a_log_line_without_an_end_does_not_swallow_the_line_after_it() -> None:
    message = message_of(b"some message")
    assert Decoder().feed(b"uart> " + encode(message, Framing.LINES))[0].message == message


def test_carriage_returns_before_newlines_are_taken() -> None:
    lines = encode(message_of(bytes(300)), Framing.LINES).replace(b"\n", b"\r\n")
    assert Decoder().feed(lines)[0].message == message_of(bytes(300))


def test_a_boot_log_before_a_cobs_burst_is_parted_from_it() -> None:
    message = message_of(b"first words")
    frames = Decoder().feed(b"*** boot: clocks ok ***\r\n" + encode_burst(message, Framing.COBS))
    assert [frame.message for frame in frames] == [message]


def test_console_markers_inside_a_cobs_frame_are_not_a_line() -> None:
    message = message_of(b"\x06\x09AAAA\nBBBB\n\x04\x14CCCC\n")
    frames = Decoder().feed(encode_burst(message, Framing.COBS))
    assert frames == [Frame(message=message, framing=Framing.COBS)]


def test_both_framings_are_read_from_one_stream() -> None:
    stream = encode_burst(message_of(b"1"), Framing.LINES) + encode_burst(message_of(b"2"), Framing.COBS)
    assert {frame.framing for frame in Decoder().feed(stream)} == set(Framing)


@given(messages, framings, st.data())
def test_one_wrong_bit_never_gives_another_message(
    message: bytes, framing: Framing, data: st.DataObject
) -> None:
    octets = bytearray(encode_burst(message, framing))
    bit = data.draw(st.integers(0, len(octets) * 8 - 1))
    octets[bit // 8] ^= 1 << bit % 8
    assert all(frame.message == message for frame in Decoder().feed(bytes(octets)))


@given(st.lists(st.binary(max_size=600), max_size=12))
def test_no_bytes_make_a_decoder_fail(pieces: list[bytes]) -> None:
    decoder = Decoder()
    for piece in pieces:
        decoder.feed(piece)


@given(st.binary(max_size=400).filter(lambda octets: b"\x00" not in octets), messages, framings)
def test_after_any_noise_the_frame_after_next_gets_through(
    noise: bytes, message: bytes, framing: Framing
) -> None:
    decoder = Decoder()
    decoder.feed(noise)
    burst = encode_burst(message, framing)
    assert message in [frame.message for frame in decoder.feed(b"\n" + burst + burst)]


@pytest.mark.parametrize("octet", [b"A", b"\x06", b"\x01", b"\xff", b"\n"])
def test_a_stream_without_end_does_not_grow_a_decoder(octet: bytes) -> None:
    decoder = Decoder()
    for _ in range(20):
        decoder.feed(octet * 4096)
    held = len(decoder._lines._line) + len(decoder._cobs._run)
    assert held <= MAX_LINE_BYTES + 2 * MAX_MESSAGE_BYTES


def test_a_frame_that_announces_more_than_a_message_holds_is_dropped() -> None:
    decoder = Decoder()
    decoder.feed(b"\x06\x09//8A\n" + b"\x04\x14AAAA\n" * 2000)
    assert decoder._lines._packet is None
    assert decoder.feed(encode(message_of(b""), Framing.LINES))[0].message == message_of(b"")


def test_broken_frames_are_counted() -> None:
    decoder = Decoder()
    octets = bytearray(encode_burst(message_of(b"some message"), Framing.COBS))
    octets[5] ^= 0x10
    decoder.feed(bytes(octets))
    assert decoder.broken == 1


def test_a_message_whose_header_tells_another_length_is_no_message() -> None:
    message = message_of(b"some message")[:-1]
    assert Decoder().feed(encode(message, Framing.COBS)) == []


def test_no_corruption_in_many_makes_another_message() -> None:
    source = random.Random(7)
    wrong = 0
    for _ in range(800):
        message = message_of(source.randbytes(40))
        octets = bytearray(encode(message, Framing.COBS))
        for _ in range(4):
            octets[source.randrange(len(octets) - 1)] = source.randrange(1, 256)
        wrong += any(frame.message != message for frame in Decoder().feed(bytes(octets)))
    assert wrong == 0
