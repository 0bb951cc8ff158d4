"""Pieces and patience follow the line."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.factory import MAX_CHUNK_BYTES, Command
from fleet.station.link.cable import Noise
from fleet.station.link.pace import (
    CLEAN_CALLS_TO_GROW,
    LONGEST_SECONDS,
    MESSAGE_OVERHEAD,
    SMALLEST_CHUNK,
    Pace,
)


@pytest.fixture
def pace() -> Pace:
    made = Pace(baud=115200)
    made.allow(2048)
    return made


def test_before_hello_pieces_are_those_of_small_devices() -> None:
    assert Pace(baud=115200).chunk == 192


def test_a_time_out_halves_the_pieces_down_to_the_smallest(pace: Pace) -> None:
    seen = []
    for _ in range(8):
        pace.timed_out()
        seen.append(pace.chunk)
    assert seen[0] == (2048 - MESSAGE_OVERHEAD) // 2
    assert seen[-1] == SMALLEST_CHUNK
    assert all(after <= before for before, after in itertools.pairwise(seen))


def test_six_clean_calls_double_them_up_to_what_the_device_takes(pace: Pace) -> None:
    largest = pace.chunk
    pace.timed_out()
    for _ in range(CLEAN_CALLS_TO_GROW - 1):
        pace.answered(Command.WRITE, latency=0.0)
    assert pace.chunk == largest // 2
    pace.answered(Command.WRITE, latency=0.0)
    assert pace.chunk == largest
    for _ in range(3 * CLEAN_CALLS_TO_GROW):
        pace.answered(Command.WRITE, latency=0.0)
    assert pace.chunk == largest


@given(st.integers(128, 65535))
def test_no_piece_makes_a_message_longer_than_the_device_takes(largest: int) -> None:
    pace = Pace(baud=115200)
    pace.allow(largest)
    assert SMALLEST_CHUNK <= pace.chunk <= max(largest - MESSAGE_OVERHEAD, SMALLEST_CHUNK)
    assert pace.chunk <= MAX_CHUNK_BYTES


def test_a_slow_device_is_waited_for_longer(pace: Pace) -> None:
    quick = pace.patience(Command.WRITE, wire_bytes=0, attempt=0)
    pace.answered(Command.READ, latency=0.066)
    for _ in range(10):
        pace.answered(Command.READ, latency=0.001)
    settled = pace.patience(Command.WRITE, wire_bytes=0, attempt=0)
    assert settled < quick


def test_the_time_on_the_line_counts(pace: Pace) -> None:
    short = pace.patience(Command.WRITE, wire_bytes=0, attempt=0)
    long = pace.patience(Command.WRITE, wire_bytes=1152, attempt=0)
    assert long - short == pytest.approx(0.1)


@pytest.mark.parametrize("command", LONGEST_SECONDS)
def test_a_call_that_takes_long_is_given_its_time_once_a_round(pace: Pace, command: Command) -> None:
    waits = [pace.patience(command, wire_bytes=0, attempt=attempt) for attempt in range(12)]
    assert max(waits[:6]) == LONGEST_SECONDS[command]
    assert waits[6:] == waits[:6]


def test_noise_is_the_same_for_the_same_seed_and_as_dense_as_told() -> None:
    octets = bytes(200_000)
    spoilt = Noise(1e-3, seed=5).spoil(octets)
    assert spoilt == Noise(1e-3, seed=5).spoil(octets)
    wrong = sum(octet.bit_count() for octet in spoilt)
    assert 0.9 < wrong / (len(octets) * 8 * 1e-3) < 1.1


@given(st.lists(st.integers(0, 50), max_size=20))
def test_noise_does_not_depend_on_how_the_bytes_are_cut(sizes: list[int]) -> None:
    whole, cut = Noise(0.01, seed=1), Noise(0.01, seed=1)
    pieces = b"".join(cut.spoil(bytes(size)) for size in sizes)
    assert pieces == whole.spoil(bytes(sum(sizes)))


def test_a_clean_wire_changes_nothing() -> None:
    assert Noise(0.0, seed=1).spoil(b"as it was") == b"as it was"
