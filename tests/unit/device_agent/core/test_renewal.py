"""When to renew, and how long to wait."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.events import Facts, Route
from device_agent.core.record import Credential, DeviceRecord
from device_agent.core.renewal import facts, renewal_of, was_missed
from device_agent.wire.pace import FIRST_WAIT, LONGEST_WAIT, MISSED, back_off, latest, own_jitter, renew_at
from device_agent.wire.replies import BrokerAddress

BIRTH = datetime(2026, 1, 1, tzinfo=UTC)
LIFE = timedelta(days=90)
DEATH = BIRTH + LIFE
ACTIVE = Credential(
    key="key",
    key_hash="80" + "0" * 62,
    serial="1" * 32,
    certificate="leaf",
    chain="chain",
    not_before=BIRTH,
    not_after=DEATH,
    broker=BrokerAddress(host="broker.example", port=8883, name="prod:d1"),
)
jitters = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_the_servers_wish_is_followed() -> None:
    wish = BIRTH + timedelta(days=10)
    assert renew_at(BIRTH, DEATH, renew_after=wish, jitter=0.5) == wish


@pytest.mark.parametrize("wish", [BIRTH - timedelta(days=1), DEATH + timedelta(days=1)])
def test_a_wish_outside_of_the_lifetime_is_not(wish: datetime) -> None:
    assert renew_at(BIRTH, DEATH, renew_after=wish, jitter=0) == BIRTH + LIFE * 2 / 3


@given(st.integers(0, 89 * 86_400), jitters)
def test_whatever_is_wished_a_twelfth_of_the_life_is_left(seconds: int, jitter: float) -> None:
    wish = BIRTH + timedelta(seconds=seconds)
    assert renew_at(BIRTH, DEATH, renew_after=wish, jitter=jitter) == min(wish, latest(BIRTH, DEATH))
    assert DEATH - latest(BIRTH, DEATH) == LIFE / 12


def test_who_missed_the_moment_asks_first_unless_there_is_no_time_to_lose() -> None:
    moment = renewal_of(ACTIVE)
    assert not was_missed(ACTIVE, now=moment + MISSED)
    assert was_missed(ACTIVE, now=moment + MISSED + timedelta(seconds=1))
    assert was_missed(ACTIVE, now=latest(BIRTH, DEATH) - timedelta(seconds=1))
    assert not was_missed(ACTIVE, now=latest(BIRTH, DEATH))


@given(jitters)
def test_without_a_wish_renewal_falls_between_two_and_three_quarters_of_the_life(jitter: float) -> None:
    moment = renew_at(BIRTH, DEATH, renew_after=None, jitter=jitter)
    assert BIRTH + LIFE * 2 / 3 <= moment <= BIRTH + LIFE * 3 / 4


def test_a_keys_jitter_is_its_own_and_lasts() -> None:
    assert own_jitter("0" * 64) == 0
    assert own_jitter("80" + "0" * 62) == 0.5
    assert own_jitter("f" * 64) < 1


def test_renewal_is_due_from_its_moment_on() -> None:
    record = DeviceRecord(active=ACTIVE)
    moment = renewal_of(ACTIVE)
    assert not facts(record, now=moment - timedelta(seconds=1)).due
    assert facts(record, now=moment).due
    assert not facts(record, now=moment).expired


def test_a_certificate_is_valid_through_its_last_second() -> None:
    record = DeviceRecord(active=ACTIVE)
    assert not facts(record, now=DEATH).expired
    assert facts(record, now=DEATH + timedelta(seconds=1)).expired


def test_the_server_may_wish_for_renewal_now() -> None:
    record = DeviceRecord(active=replace(ACTIVE, renew_after=BIRTH))
    assert facts(record, now=BIRTH).due


def test_a_device_without_a_certificate_has_nothing_to_renew() -> None:
    refused = frozenset({Route.CLAIM})
    assert facts(DeviceRecord(), now=DEATH, refused=refused) == Facts(refused=refused)


def test_an_expired_certificate_is_not_worth_a_try() -> None:
    assert not Facts(expired=True).usable(Route.ACTIVE)
    assert Facts(expired=True).usable(Route.PENDING)


@given(st.integers(min_value=0, max_value=10_000), jitters)
def test_the_back_off_is_somewhere_between_nothing_and_its_bound(failures: int, jitter: float) -> None:
    assert timedelta() <= back_off(failures, jitter=jitter) <= LONGEST_WAIT


@pytest.mark.parametrize(("failures", "doublings"), [(0, 1), (1, 1), (2, 2), (3, 4), (9, 256)])
def test_the_bound_doubles_with_each_failure(failures: int, doublings: int) -> None:
    assert back_off(failures, jitter=1) == FIRST_WAIT * doublings


def test_the_bound_ends_at_the_longest_wait() -> None:
    assert back_off(1_000, jitter=1) == LONGEST_WAIT
