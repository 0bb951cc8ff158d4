"""Serials: 16 octets, positive, growing with time and within a device."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.serial import SERIAL_RANDOMNESS, new_serial
from fleet.errors import FleetError

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
randomness = st.binary(min_size=SERIAL_RANDOMNESS, max_size=SERIAL_RANDOMNESS)
START = datetime(2024, 1, 1, tzinfo=UTC)
moments = st.timedeltas(timedelta(), timedelta(days=126 * 365)).map(lambda since: START + since)
ZERO, ONES = bytes(SERIAL_RANDOMNESS), b"\xff" * SERIAL_RANDOMNESS


def test_a_serial_is_top_bits_then_time_then_randomness() -> None:
    ticks = int((NOW - START).total_seconds()) // 1024
    assert new_serial(now=NOW, randomness=ZERO) == f"{0x400000 | ticks:06x}" + "0" * 26


@given(moments, randomness)
def test_a_serial_is_always_16_positive_octets(now: datetime, random: bytes) -> None:
    serial = new_serial(now=now, randomness=random)
    assert len(serial) == 32
    assert 0x40 <= int(serial[:2], 16) <= 0x7F
    assert serial.endswith(random.hex())


@given(moments, randomness, randomness)
def test_a_later_serial_is_higher_as_text(now: datetime, early: bytes, late: bytes) -> None:
    later = now + timedelta(seconds=1024)
    assert new_serial(now=now, randomness=early) < new_serial(now=later, randomness=late)


@given(moments, moments, randomness, randomness)
def test_a_device_never_gets_a_lower_serial_whatever_the_clock_says(
    first: datetime, second: datetime, one: bytes, other: bytes
) -> None:
    above = new_serial(now=first, randomness=one)
    assert new_serial(now=second, randomness=other, above=above) > above


def test_a_serial_in_the_same_tick_is_still_higher() -> None:
    above = new_serial(now=NOW, randomness=ONES)
    assert new_serial(now=NOW, randomness=ZERO, above=above) > above


def test_too_little_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="13 octets"):
        new_serial(now=NOW, randomness=b"short")


@pytest.mark.parametrize("year", [2023, 2170])
def test_a_clock_that_cannot_be_right_is_refused(year: int) -> None:
    with pytest.raises(ValueError, match="clock"):
        new_serial(now=datetime(year, 6, 1, tzinfo=UTC), randomness=ZERO)


def test_no_serial_is_made_past_the_last_one() -> None:
    with pytest.raises(FleetError):
        new_serial(now=NOW, randomness=ONES, above="7f" + "f" * 30)
