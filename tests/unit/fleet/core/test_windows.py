"""The server's windows: flat, never too late, and always the same."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.pace import latest
from fleet.core.profile import DEFAULT_PROFILES
from fleet.core.serial import new_serial
from fleet.core.windows import HOUR, choices, emptiest, hour_of, suggested
from fleet.model import Purpose

BIRTH = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
PROFILE = DEFAULT_PROFILES[Purpose.DEVICE]
lifetimes = st.timedeltas(min_value=timedelta(minutes=5), max_value=timedelta(days=3650))
serials = st.builds(lambda tail: f"40{0:06x}{tail:024x}", st.integers(min_value=0, max_value=2**96 - 1))


@given(lifetimes, serials)
def test_every_choice_lies_in_the_profiles_window_and_is_never_too_late(
    lifetime: timedelta, serial: str
) -> None:
    end = BIRTH + lifetime
    window = PROFILE.window(BIRTH, end)
    for moment in choices(window, serial):
        assert window.opens - timedelta(seconds=1) <= moment <= window.closes
        assert moment <= latest(BIRTH, end)


@given(serials)
def test_the_first_choice_is_what_was_always_told(serial: str) -> None:
    end = BIRTH + PROFILE.lifetime
    jitter = int(serial[-8:], 16) / 2**32
    assert choices(PROFILE.window(BIRTH, end), serial)[0] == PROFILE.renew_after(BIRTH, end, jitter)


@given(serials, st.dictionaries(st.integers(0, 200), st.integers(0, 50)))
def test_the_emptiest_hour_is_taken_and_always_the_same(serial: str, counts: dict[int, int]) -> None:
    window = PROFILE.window(BIRTH, BIRTH + PROFILE.lifetime)
    planned = {hour_of(window.opens) + HOUR * number: count for number, count in counts.items()}
    moments = choices(window, serial)
    chosen = emptiest(moments, planned)
    assert planned.get(hour_of(chosen), 0) == min(planned.get(hour_of(one), 0) for one in moments)
    assert emptiest(choices(window, serial), dict(planned)) == chosen


@given(
    st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2030, 1, 1)),  # noqa: DTZ001 - made aware
    lifetimes,
)
def test_a_suggested_window_begins_in_good_time_and_has_a_length(wish: datetime, lifetime: timedelta) -> None:
    found = suggested(wish.replace(tzinfo=UTC), not_before=BIRTH, not_after=BIRTH + lifetime)
    assert found.start <= latest(BIRTH, BIRTH + lifetime)
    assert found.start < found.end <= found.start + HOUR


def test_a_large_fleet_is_renewed_at_an_even_rate() -> None:
    random, planned = Random(9), Counter[datetime]()
    hours = int(PROFILE.lifetime / HOUR)
    for number in range(200_000):
        born = BIRTH + HOUR * (number % hours)
        window = PROFILE.window(born, born + PROFILE.lifetime)
        planned[hour_of(emptiest(choices(window, f"{random.getrandbits(128):032x}"), planned))] += 1
    assert max(planned.values()) < 1.1 * 200_000 / hours


def test_what_a_factory_makes_in_one_shift_is_spread_over_the_whole_window() -> None:
    random, planned, alone = Random(10), Counter[datetime](), Counter[datetime]()
    for _ in range(50_000):
        born = BIRTH + timedelta(seconds=random.randrange(8 * 3600))
        window = PROFILE.window(born, born + PROFILE.lifetime)
        serial = new_serial(now=born, randomness=random.randbytes(13))
        moments = choices(window, serial)
        alone[hour_of(moments[0])] += 1
        planned[hour_of(emptiest(moments, planned))] += 1
    mean = 50_000 / (PROFILE.lifetime / 12 / HOUR)
    assert max(planned.values()) < 1.1 * mean < max(alone.values())
