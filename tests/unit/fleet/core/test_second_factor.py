"""Codes of people's second factors: RFC 6238's own numbers, one use each, and an end to guessing."""

from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.secret import Secret
from fleet.core.second_factor import (
    MOST_WRONG,
    STEP_SECONDS,
    CodeVerdict,
    FactorState,
    enrollment_uri,
    judge_code,
)

RFC_SECRET = Secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")  # RFC 6238 B: the ASCII digits 1 to 0, twice
SECRET = Secret("5QG6FWV7ZPCJ5J2I7UVUS25ANSXRZZKT")
NOON = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
FRESH = FactorState()


def code_at(moment: datetime) -> str:
    return pyotp.TOTP(SECRET.reveal()).at(int(moment.timestamp()))


@pytest.mark.parametrize(
    ("seconds", "code"),
    # RFC 6238 B, the rows of SHA-1: the last six of the eight digits
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_the_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    at = datetime.fromtimestamp(seconds, tz=UTC)
    assert judge_code(RFC_SECRET, code, at=at, state=FRESH)[0] is CodeVerdict.RIGHT


@pytest.mark.parametrize("typed", ["{0}", " {0}\n", "{1} {2}"])
def test_a_code_may_be_typed_as_apps_show_it(typed: str) -> None:
    code = code_at(NOON)
    verdict, _ = judge_code(SECRET, typed.format(code, code[:3], code[3:]), at=NOON, state=FRESH)
    assert verdict is CodeVerdict.RIGHT


@given(st.integers(-3, 3))
def test_a_clock_may_be_one_step_off_and_no_more(steps: int) -> None:
    code = code_at(NOON + timedelta(seconds=STEP_SECONDS * steps))
    verdict, _ = judge_code(SECRET, code, at=NOON, state=FRESH)
    assert (verdict is CodeVerdict.RIGHT) == (abs(steps) <= 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 1)), max_size=30))
def test_every_step_counts_at_most_once_and_none_after_a_later_one(
    tries: list[tuple[int, int]],
) -> None:
    state, now, counted = FRESH, NOON, list[int]()
    for waited, drift in tries:
        now += timedelta(seconds=STEP_SECONDS * waited)
        of = now + timedelta(seconds=STEP_SECONDS * drift)
        verdict, state = judge_code(SECRET, code_at(of), at=now, state=state)
        if verdict is CodeVerdict.RIGHT:
            counted.append(state.last_step)
    assert counted == sorted(set(counted))


def test_a_replay_is_told_from_a_wrong_code_and_counts_as_one() -> None:
    _, state = judge_code(SECRET, code_at(NOON), at=NOON, state=FRESH)
    verdict, after = judge_code(SECRET, code_at(NOON), at=NOON, state=state)
    assert (verdict, after.wrong) == (CodeVerdict.REPLAYED, 1)


def test_after_too_many_wrong_ones_not_even_the_right_one_counts() -> None:
    state = FRESH
    for _ in range(MOST_WRONG):
        verdict, state = judge_code(SECRET, "nothing", at=NOON, state=state)
        assert verdict is CodeVerdict.WRONG
    assert judge_code(SECRET, code_at(NOON), at=NOON, state=state) == (CodeVerdict.LOCKED, state)


def test_a_right_code_takes_the_wrong_ones_before_it_back() -> None:
    _, state = judge_code(SECRET, "000000x", at=NOON, state=FRESH)
    assert judge_code(SECRET, code_at(NOON), at=NOON, state=state)[1].wrong == 0


@given(st.text(max_size=20))
def test_whatever_is_typed_is_judged(typed: str) -> None:
    verdict, state = judge_code(SECRET, typed, at=NOON, state=FRESH)
    assert (verdict is CodeVerdict.RIGHT) == (state.wrong == 0)


def test_apps_take_the_secret_in_from_its_uri() -> None:
    uri = enrollment_uri(SECRET, name="ada", fleet="acme")
    assert pyotp.parse_uri(uri).secret == SECRET.reveal()
    assert uri.startswith("otpauth://totp/fleet%20acme:ada?")
