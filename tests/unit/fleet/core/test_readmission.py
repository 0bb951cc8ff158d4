"""Whose voices let an operator in again, and the code that they compare."""

import re
from contextlib import suppress
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.readmission import (
    OWNER,
    TRANSITIONS,
    ReadmissionEvent,
    ReadmissionState,
    crowded_out,
    is_agreed,
    needs,
    read_spoken,
    source_of,
    spoken_code,
)
from fleet.errors import BadInputError

PEOPLE = st.frozensets(st.sampled_from(["bob", "eve", "joe", "mia"]))
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(PEOPLE, PEOPLE, st.booleans())
def test_two_others_are_needed_and_the_owner_alone_only_where_there_are_not_two(
    voices: frozenset[str], others: frozenset[str], owner: bool
) -> None:
    heard = voices | ({OWNER} if owner else set())
    agreed = is_agreed(heard, others=others)
    if len(others) < 2:
        assert agreed is owner
    else:
        assert agreed is (len(heard & (others | {OWNER})) >= 2)
    assert not is_agreed(frozenset(), others=others)


def test_the_word_of_somebody_who_may_not_act_any_more_counts_for_nothing() -> None:
    assert is_agreed(frozenset({"bob", "eve"}), others=frozenset({"bob", "eve"}))
    assert not is_agreed(frozenset({"bob", "eve"}), others=frozenset({"bob", "joe"}))


def test_whoever_asks_is_told_whose_word_is_needed() -> None:
    assert needs(frozenset({"eve", "bob"})).startswith("two of the other operators")
    assert needs(frozenset({"bob"})) == "the owner of the home"


@given(HASHES)
def test_a_spoken_code_is_read_as_it_was_heard(key_hash: str) -> None:
    code = spoken_code(key_hash)
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){2}[0-9A-HJKMNP-TV-Z]{4}", code)
    heard = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert read_spoken(heard) == code


@given(st.text(max_size=20))
def test_whatever_is_no_code_is_refused(text: str) -> None:
    with suppress(BadInputError):
        assert re.fullmatch(r"[0-9A-Z-]{14}", read_spoken(text))


@pytest.mark.parametrize(("state", "event"), list(product(ReadmissionState, ReadmissionEvent)))
def test_nobody_is_let_in_but_by_agreement_and_nothing_ends_twice(
    state: ReadmissionState, event: ReadmissionEvent
) -> None:
    after = TRANSITIONS.get((state, event))
    if after is ReadmissionState.DONE:
        assert state is ReadmissionState.AGREED
    if state in {ReadmissionState.DONE, ReadmissionState.DENIED, ReadmissionState.EXPIRED}:
        assert after is None


@given(st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]), max_size=8))
def test_who_floods_the_list_pushes_himself_out(addresses: list[str]) -> None:
    gone = crowded_out(addresses, most=5)
    assert (gone is None) == (len(addresses) < 5)
    if gone is not None:
        places = [source_of(address) for address in addresses]
        assert places.count(places[gone]) == max(places.count(place) for place in places)
        assert places.index(places[gone]) == gone


def test_an_ipv6_network_is_one_place_and_what_is_no_address_is_itself() -> None:
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff") != source_of("2001:db8:0:1::1")
    assert source_of("192.0.2.1") == "192.0.2.1"
    assert source_of("") == ""
