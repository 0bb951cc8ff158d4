"""A herd by the code of both sides: what is spread, what is not, and that nobody's certificate ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from fleet.core.herd import Herd, fallen_broker, lost_ca, midnight, outage
from fleet.core.profile import DEFAULT_PROFILES
from fleet.model import Purpose

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HERD = Herd(devices=30_000, profile=DEFAULT_PROFILES[Purpose.DEVICE], a_second=50, handshakes=400)


@pytest.fixture
def chance() -> Random:
    return Random(5)


def test_devices_that_are_told_when_to_renew_make_no_rush_at_midnight(chance: Random) -> None:
    found = midnight(HERD, chance.random, now=NOW)
    assert found.before.peak == found.devices
    assert found.after.peak <= 4
    assert found.after.tries == pytest.approx(found.devices, rel=0.1)
    assert found.after.lasts > 0.9 * DAY


def test_after_an_outage_the_back_off_spreads_those_who_tried_all_the_time(chance: Random) -> None:
    found = outage(HERD, chance.random, now=NOW, length=DAY)
    assert found.after.peak < found.before.peak / 2
    assert timedelta(minutes=30) < found.after.lasts <= timedelta(hours=1)
    assert found.ended == 0


def test_a_slow_server_gets_no_more_than_its_pace(chance: Random) -> None:
    slow = replace(HERD, a_second=0.05)
    found = outage(slow, chance.random, now=NOW, length=DAY)
    assert found.after.lasts == pytest.approx(timedelta(seconds=found.devices / 0.05), rel=0.05)
    assert found.after.peak <= 2
    assert found.ended == 0


def test_an_outage_longer_than_certificates_have_left_ends_some(chance: Random) -> None:
    assert outage(replace(HERD, devices=2000), chance.random, now=NOW, length=40 * DAY).ended > 0


def test_a_lost_ca_is_replaced_at_an_even_rate(chance: Random) -> None:
    found = lost_ca(HERD, chance.random, now=NOW, within=DAY)
    assert found.before.peak == HERD.devices / 60
    assert found.after.peak <= 6
    assert found.after.lasts <= DAY


def test_after_a_brokers_fall_the_back_off_asks_far_less_often_and_all_come_back(chance: Random) -> None:
    found = fallen_broker(replace(HERD, devices=10_000, handshakes=200), chance.random)
    assert found.after.tries < found.before.tries
    assert found.after.lasts >= found.before.lasts, "no broker takes more than it can"


def test_a_larger_herd_than_is_followed_is_as_many_times_that(chance: Random) -> None:
    herd = replace(HERD, devices=5000, handshakes=200, followed=5000)
    small = fallen_broker(herd, chance.random)
    large = fallen_broker(replace(herd, devices=20_000, handshakes=800, listen_queue=400), chance.random)
    assert large.after.peak == pytest.approx(4 * small.after.peak, rel=0.05)
    assert large.after.lasts == pytest.approx(small.after.lasts, rel=0.2)


def test_the_same_chance_gives_the_same_stampede() -> None:
    assert midnight(HERD, Random(1).random, now=NOW) == midnight(HERD, Random(1).random, now=NOW)
