"""Rate limits and nonces: bounded, fresh, once."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.ra.limits import RateLimiter
from fleet.ra.nonces import LIFETIME, Nonces
from tests.desk import NOON


def test_an_allowance_is_used_up_and_comes_back_with_time() -> None:
    limiter = RateLimiter(per_minute=2)

    now = [limiter.allow("a", now=NOON) for _ in range(3)]
    later = limiter.allow("a", now=NOON + timedelta(seconds=30))

    assert now == [True, True, False]
    assert later


def test_to_look_whether_there_is_room_takes_none() -> None:
    limiter = RateLimiter(per_minute=1)

    assert all(limiter.has_room("a", now=NOON) for _ in range(5))
    assert limiter.allow("a", now=NOON)
    assert not limiter.has_room("a", now=NOON)
    assert limiter.has_room("a", now=NOON + timedelta(minutes=1))


def test_what_is_given_back_can_be_taken_again_and_no_more_than_there_was() -> None:
    limiter = RateLimiter(per_minute=1)
    limiter.give_back("a", now=NOON)

    assert limiter.allow("a", now=NOON)
    for _ in range(3):
        limiter.give_back("a", now=NOON)

    assert [limiter.allow("a", now=NOON) for _ in range(2)] == [True, False]


def test_one_asker_does_not_use_up_anothers_allowance() -> None:
    limiter = RateLimiter(per_minute=1)

    assert limiter.allow("a", now=NOON)
    assert limiter.allow("b", now=NOON)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    limiter = RateLimiter(per_minute=1)
    limiter.allow("a", now=NOON)

    assert not limiter.allow("a", now=NOON - timedelta(days=1))


def test_idle_askers_are_forgotten_before_new_ones_are_refused(monkeypatch: object) -> None:
    limiter = RateLimiter(per_minute=1)
    for number in range(50_000):
        limiter.allow(str(number), now=NOON)

    assert not limiter.allow("one more", now=NOON)
    assert limiter.allow("one more", now=NOON + timedelta(minutes=2))


def test_a_nonce_is_good_once() -> None:
    nonces = Nonces(b"k" * 32)
    nonce = nonces.issue(now=NOON, randomness=b"12345678")

    assert nonces.redeem(nonce, now=NOON)
    assert not nonces.redeem(nonce, now=NOON)
    assert not nonces.redeem(nonce.upper(), now=NOON)


def test_a_nonce_grows_old() -> None:
    nonces = Nonces(b"k" * 32)
    nonce = nonces.issue(now=NOON, randomness=b"12345678")

    assert not nonces.redeem(nonce, now=NOON + LIFETIME)


def test_another_servers_nonce_is_none() -> None:
    nonce = Nonces(b"a" * 32).issue(now=NOON, randomness=b"12345678")

    assert not Nonces(b"b" * 32).redeem(nonce, now=NOON)


@given(st.text(max_size=80) | st.binary(max_size=40).map(bytes.hex))
def test_no_made_up_nonce_is_taken(text: str) -> None:
    assert not Nonces(b"k" * 32).redeem(text, now=NOON)
